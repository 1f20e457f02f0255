"""
Preference pairs from a policy's own answers, for DPO in rounds: sample, score, pair, train, sample again.

Pairs that the reward model cannot tell apart are left out, and answers that it does not know; both are counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from datasets import Dataset

from urm_hf.data.content import Messages, says_nothing
from urm_hf.data.errors import RowError
from urm_hf.rl.completions import CompletionScorer, Scorer, check_measure
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.filtering import filter_values
from urm_hf.uncertainty.measures import compute_uncertainty, preference_probability

SELECTIONS = ("best_worst", "all")


@dataclass
class PairReport:
    """
    What became of the candidates.

    Args:
        prompts (`int`): prompts that came.
        candidates (`int`): candidates that came.
        empty (`int`): candidates without text.
        duplicate (`int`): candidates with the text of another one to the same prompt.
        unscorable (`int`): candidates that the scorer could not encode, or gave no finite reward.
        unknown (`int`): candidates whose uncertainty was above the threshold.
        lone_prompts (`int`): prompts that had fewer than two candidates left, and so no pair.
        close (`int`): pairs whose rewards differ by no more than the margin, ties among them.
        undecided (`int`): pairs with P(chosen > rejected) below the least probability.
        pairs (`int`): pairs that were made.
        threshold (`float`, *optional*): the largest uncertainty that was kept; with `keep` it follows from the
            candidates. None where nothing was filtered.
    """

    prompts: int
    candidates: int
    empty: int = 0
    duplicate: int = 0
    unscorable: int = 0
    unknown: int = 0
    lone_prompts: int = 0
    close: int = 0
    undecided: int = 0
    pairs: int = 0
    threshold: float | None = None

    def __str__(self) -> str:
        counts = asdict(self)
        counts["above"] = "" if self.threshold is None else f" (above {self.threshold:.4g})"
        return (
            "{pairs} pairs from {candidates} candidates for {prompts} prompts. Left out: {empty} empty, {duplicate} "
            "duplicate, {unscorable} unscorable and {unknown} uncertain candidates{above}; {lone_prompts} prompts "
            "with fewer than two left; {close} pairs too close in reward, {undecided} of undecided preference."
        ).format(**counts)


@dataclass
class _Candidate:
    answer: str | Messages
    reward: float
    score: RewardScore
    uncertainty: float | None = None


def build_preference_pairs(
    prompts: Sequence[str | Messages],
    candidates: Sequence[Sequence[str | Messages]],
    scorer: Scorer,
    *,
    measure: str | None = None,
    threshold: float | None = None,
    keep: float | None = None,
    margin: float = 0.0,
    min_probability: float = 0.5,
    select: str = "best_worst",
    on_error: str = "raise",
) -> tuple[Dataset, PairReport]:
    """
    A dataset for DPOTrainer with the columns prompt, chosen, rejected, score_chosen, score_rejected; with `measure`
    also uncertainty_chosen and uncertainty_rejected; from models with a `reward_std` also probability.

    Args:
        prompts (`list[str]` or `list[Messages]`):
            P texts, or P lists of messages.
        candidates (`list[list[str]]` or `list[list[Messages]]`):
            For each prompt its answers: texts or messages. Rewards compare within a prompt only.
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`):
            A [`RewardScorer`], a model, or the name of one; a list of names makes an ensemble.
        measure (`str`, *optional*):
            One of `urm_hf.uncertainty.MEASURES`, higher = less sure. Needs `threshold` or `keep`.
        threshold (`float`, *optional*):
            The largest uncertainty of a known answer, in the unit of `measure`. Others are left out before pairs are
            made, so that neither side of a pair is unknown (section 5.2.3).
        keep (`float`, *optional*):
            Instead of a threshold: the share of all scored candidates to keep, in (0, 1], those of the lowest
            uncertainty; 0.5 is what the later version of the paper keeps. Candidates that tie with the last one are
            kept as well. The share is of all prompts together, so that a prompt the model knows little of may lose
            all of its answers.
        margin (`float`, *optional*, defaults to `0.0`):
            Pairs need a larger difference in reward than this.
        min_probability (`float`, *optional*, defaults to `0.5`):
            The least P(chosen > rejected) = Phi((r_c - r_r) / sqrt(Var_c + Var_r)). At p, pairs within the band
            (1 - p, p) are left out; 0.5 leaves out none.
        select (`str`, *optional*, defaults to `"best_worst"`):
            "best_worst" makes one pair a prompt, from its highest and lowest reward; "all" every pair.
        on_error (`str`, *optional*, defaults to `"raise"`):
            What happens to a candidate that cannot be scored (too long, no template for its roles, a reward that is
            not finite): "raise" names it, "skip" leaves it out, counts it and logs why.

    Returns:
        `tuple[Dataset, PairReport]`: the dataset, and what was left out and why.

    Raises:
        ValueError: an argument is out of range, candidates do not match the prompts, or no pair is left.
        RowError: a candidate cannot be scored.
    """
    _check_candidates(prompts, candidates)
    _check_settings(measure, threshold, keep, margin, min_probability, select, on_error)
    completions = CompletionScorer(scorer)
    if measure is not None:
        check_measure(measure, completions.scorer)
    if min_probability > 0.5 and not completions.scorer.attributes:
        raise ValueError("`min_probability` needs a model that gives a `reward_std`, as a URM does.")
    # Counted at each step, not at the end: what is left out first is not there to be counted again.
    report = PairReport(len(prompts), sum(map(len, candidates)))
    distinct = [_drop_repeats(answers, report) for answers in candidates]
    known = _score_candidates(completions, prompts, distinct, on_error, report)
    if measure is not None:
        known = _filter_candidates(known, measure, threshold, keep, report)
    rows: list[dict[str, Any]] = []
    for prompt, group in zip(prompts, known, strict=True):
        rows += _build_rows(prompt, group, select, margin, min_probability, report)
    report.pairs = len(rows)
    if not rows:
        raise ValueError(f"no pair is left. {report}")
    return Dataset.from_list(rows), report


def _check_candidates(prompts, candidates):
    if isinstance(prompts, str):
        raise ValueError(f"`prompts` must be a list of texts or of messages, got one text: {prompts[:80]!r}.")
    if len(prompts) == 0:
        raise ValueError("`prompts` is empty.")
    if len(prompts) != len(candidates):
        raise ValueError(
            f"`candidates` must hold a list for each of the {len(prompts)} prompts, got {len(candidates)}."
        )
    for number, (prompt, answers) in enumerate(zip(prompts, candidates, strict=True)):
        if isinstance(prompt, str) != isinstance(prompts[0], str):
            raise ValueError(
                f"`prompts` must be all texts or all messages, but `prompts[{number}]` is not as the first."
            )
        if isinstance(answers, str) or not isinstance(answers, Sequence):
            raise ValueError(f"`candidates[{number}]` must be a list of answers, got {type(answers).__name__}.")
        if isinstance(prompt, str) and not all(isinstance(answer, str) for answer in answers):
            raise ValueError(f"`candidates[{number}]` must be texts, as its prompt is.")


def _check_settings(measure, threshold, keep, margin, min_probability, select, on_error):
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be raise or skip, got {on_error!r}.")
    if threshold is not None and keep is not None:
        raise ValueError(f"Give either `threshold` or `keep`, got threshold={threshold} and keep={keep}.")
    if (measure is None) != (threshold is None and keep is None):
        name = "threshold" if keep is None else "keep"
        either = "`measure` and `threshold` go together, or `measure` and `keep`"
        raise ValueError(f"{either}; got measure={measure!r}, {name}={threshold if keep is None else keep}.")
    if keep is not None and not 0 < keep <= 1:
        raise ValueError(f"`keep` is a share and must lie in (0, 1], got {keep}.")
    if threshold is not None and not 0 <= threshold < float("inf"):
        raise ValueError(f"`threshold` must be finite and not negative, got {threshold}.")
    if not 0 <= margin < float("inf"):
        raise ValueError(f"`margin` must be finite and not negative, got {margin}.")
    if not 0.5 <= min_probability < 1:
        raise ValueError(f"`min_probability` must be at least 0.5 and below 1, got {min_probability}.")
    if select not in SELECTIONS:
        raise ValueError(f"`select` must be one of {', '.join(SELECTIONS)}, got {select!r}.")


def _drop_repeats(answers: Sequence[str | Messages], report: PairReport) -> list[str | Messages]:
    """Answers that say something, each once."""
    kept: list[str | Messages] = []
    for answer in answers:
        if says_nothing(answer):
            report.empty += 1
        elif answer in kept:
            report.duplicate += 1
        else:
            kept.append(answer)
    return kept


def _score_candidates(
    completions: CompletionScorer,
    prompts: Sequence[str | Messages],
    distinct: Sequence[Sequence[str | Messages]],
    on_error: str,
    report: PairReport,
) -> list[list[_Candidate]]:
    """The candidates of each prompt that have a score, in one call of the scorer for all."""
    # one call, whatever the number of prompts: batches are full, and answers to one prompt share its tokens
    asked = [(number, answer) for number, answers in enumerate(distinct) for answer in answers]
    try:
        scores = completions.score_usable(
            [prompts[number] for number, _ in asked], [answer for _, answer in asked], on_error=on_error
        )
    except RowError as error:
        if error.row is None or not 0 <= error.row < len(asked):
            raise
        number, answer = asked[error.row]
        told = f"prompts[{number}], the candidate {str(answer)[:60]!r}"
        raise RowError(f'{told}: {error} Or leave such candidates out: `on_error="skip"`.') from error
    scored: list[list[_Candidate]] = [[] for _ in prompts]
    for (number, answer), score in zip(asked, scores, strict=True):
        if score is None:
            report.unscorable += 1
        else:
            scored[number].append(_Candidate(answer, score["reward"], score))
    return scored


def _filter_candidates(
    scored: list[list[_Candidate]],
    measure: str,
    threshold: float | None,
    keep: float | None,
    report: PairReport,
) -> list[list[_Candidate]]:
    """The candidates of each prompt that the model knows."""
    together = [candidate for group in scored for candidate in group]
    if not together:  # of which no share can be taken; that no pair is left is told later, with the counts
        return scored
    uncertainties = compute_uncertainty([candidate.score for candidate in together], measure)
    # over all prompts at once: a share of each prompt's would keep answers that the model knows nothing of
    filtered = filter_values(uncertainties, threshold=threshold, keep=keep)
    for candidate, uncertainty in zip(together, uncertainties.tolist(), strict=True):
        candidate.uncertainty = uncertainty
    report.unknown, report.threshold = filtered.n_dropped, filtered.threshold
    kept = iter(filtered.kept)
    return [[candidate for candidate in group if next(kept)] for group in scored]


def _build_rows(
    prompt, group: list[_Candidate], select: str, margin: float, least: float, report: PairReport
) -> list[dict]:
    """The pairs of one prompt that are far enough apart."""
    if len(group) < 2:
        report.lone_prompts += 1
    rows = []
    for chosen, rejected in _select_pairs(group, select):
        probability = _compute_probability(chosen.score, rejected.score)
        # the margin first: where rewards tie, the probability is 0.5 and would say the same in other words
        if chosen.reward - rejected.reward <= margin:
            report.close += 1
        elif probability is not None and probability < least:
            report.undecided += 1
        else:
            rows.append(_build_row(prompt, chosen, rejected, probability))
    return rows


def _select_pairs(group: list[_Candidate], select: str) -> Iterator[tuple[_Candidate, _Candidate]]:
    """(higher reward, lower reward)"""
    ranked = sorted(group, key=lambda candidate: -candidate.reward)  # stable: equal rewards stay in their order
    if select == "all":
        yield from combinations(ranked, 2)
    elif len(ranked) > 1:
        yield ranked[0], ranked[-1]


def _build_row(
    prompt: str | Messages, chosen: _Candidate, rejected: _Candidate, probability: float | None
) -> dict[str, Any]:
    sides = {"chosen": chosen, "rejected": rejected}
    row: dict[str, Any] = {"prompt": prompt}
    row |= {side: _match_prompt(prompt, candidate.answer) for side, candidate in sides.items()}
    row |= {f"score_{side}": candidate.reward for side, candidate in sides.items()}
    if chosen.uncertainty is not None:
        row |= {f"uncertainty_{side}": candidate.uncertainty for side, candidate in sides.items()}
    return row if probability is None else row | {"probability": probability}


def _match_prompt(prompt: str | Messages, answer: str | Messages) -> str | Messages:
    """TRL wants prompt and answer both as text or both as messages."""
    if isinstance(prompt, str) or not isinstance(answer, str):
        return answer
    return [{"role": "assistant", "content": answer}]


def _compute_probability(chosen: RewardScore, rejected: RewardScore) -> float | None:
    """P(chosen > rejected), or None if the model gives no spread of its rewards."""
    if chosen.reward_std is None:
        return None
    return preference_probability(chosen["reward"], chosen["reward_std"], rejected["reward"], rejected["reward_std"])
