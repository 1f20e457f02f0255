"""What was found about ratings, in sentences: who follows the annotators, how near to the ceiling, how honestly."""

from markupsafe import Markup

from urm_hf.evaluation.entries import DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.text import (
    MANY,
    READING,
    SPACE,
    Finding,
    add_interval,
    certainty,
    format_count,
    format_interval,
    format_test,
    format_value,
    join_words,
    name_model,
    number,
    percent,
)

# intervals that are wider than needed mislead as those that are too narrow do: what is known is told as unknown
TONES = {"are honest": "good", "are too narrow": "warning", "are wider than needed": "warning"}
LEVELS = {"coverage68": 0.6827, "coverage95": 0.95}  # what the intervals mu -+ sigma and mu -+ 1.96 sigma promise
CALIBRATED = {"interval_coverage68": 0.68, "interval_coverage95": 0.95}  # what a calibrated model's own do
CONSTANT = "constant"  # the baseline that predicts the same of every conversation


def rating_findings(results: EvaluationResults, data: DataEntry) -> list[Finding]:
    """How well means follow the annotators, beside what an annotator achieves, and whether intervals hold."""
    name = data.name
    findings = [_tell_means(results, name), _tell_ceiling(results, name), *_tell_likelihoods(results, name)]
    if sum(results.get(name, model, "coverage95") is not None for model in results.names) > MANY:
        findings += _tell_coverage_of_many(results, name)
    else:
        for model in results.names:
            findings += _tell_coverage(results, name, model)
    return [finding for finding in findings if finding]


def pearson(results: EvaluationResults, data: str, model: str, attribute: str | None = None) -> Measured | None:
    """Of predicted and mean ratings; of the reward, if the model predicts none."""
    level = None if attribute is None else "attribute"
    own = results.get(data, model, "pearson", level, attribute)
    return own or results.get(data, model, "pearson", level, attribute, "reward")


def _tell_means(results: EvaluationResults, data: str) -> Finding | None:
    found = [(model, r) for model in results.names if (r := pearson(results, data, model))]
    if not found:
        return None
    found.sort(key=lambda pair: -pair[1].value)
    parts = [
        Markup("{}{} with r{}={}{}").format(
            name_model(model), " (its reward)" if r.variant else "", SPACE, SPACE, format_value(r)
        )
        for model, r in found
    ]
    text = Markup("Agreement with the mean ratings of {}: {}.").format(
        format_count(found[0][1].n, "conversation"), join_words(parts)
    )
    unproven = [name_model(model) for model, r in found if r.interval and r.interval[0] <= 0 <= r.interval[1]]
    opposed = [name_model(model) for model, r in found if r.interval and r.interval[1] < 0]
    if opposed:
        verb = "predicts" if len(opposed) == 1 else "predict"
        text += Markup(" {} <b>{} the opposite of them</b>.").format(join_words(opposed), verb)
    if unproven:
        is_shown = "is not shown" if len(unproven) == 1 else "are not shown"
        text += Markup(" {} <b>{} to follow them at all</b>.").format(join_words(unproven), is_shown)
    return Finding(text + _compare_first_two([r for _, r in found]), "warning" if unproven or opposed else "plain")


def _compare_first_two(found: list[Measured]) -> Markup:
    if len(found) < 2 or not found[0].interval or not found[1].interval:
        return Markup("")
    if found[0].interval[0] > found[1].interval[1]:
        return Markup(" The intervals of the first two do not overlap: the lead <b>is unlikely to be noise</b>.")
    return Markup(" The intervals of the first two overlap: the lead <b>may be noise</b>.")


def _tell_ceiling(results: EvaluationResults, data: str) -> Finding | None:
    ceiling = results.whosesoever(data, "noise_ceiling_pearson")
    single = [(model, r) for model in results.names if (r := results.get(data, model, "single_pearson"))]
    if ceiling is None:
        return None
    told = Markup("Annotators, each predicted by the others, reach r{}={}{}: the noise ceiling.").format(
        SPACE, SPACE, format_value(ceiling)
    )
    if single:
        parts = [Markup("{} reaches {}").format(name_model(model), format_value(r)) for model, r in single]
        told += Markup(" Against the same single ratings {}.").format(join_words(parts))
    return Finding(told)


def _tell_likelihoods(results: EvaluationResults, data: str) -> list[Finding]:
    """The first two by NLL, and those that do not beat the constant prediction."""
    ranked = results.rank(data, "nll")[::-1]
    findings = []
    if len(ranked) > 1:
        (a, _), (b, _) = ranked[:2]
        compared = results.compare(data, b, a)  # turned, as lower is better
        if compared:
            size = add_interval(number(compared.difference, 3), format_interval(compared.interval, 3, 1))
            kind, names = certainty(compared), (name_model(a), name_model(b))
            if kind == "equal":
                told = Markup("By likelihood, {} and {} are equally good (a difference in NLL of {}).")
                told = told.format(*names, size)
            else:
                told = Markup("By likelihood, {} is ahead of {}: its NLL is lower by {}, which <b>{}</b> ({}).")
                told = told.format(*names, size, READING[kind], format_test(compared))
            findings.append(Finding(told, "good" if kind == "sure" else "plain"))
    constant = results.get(data, CONSTANT, "nll")
    if constant is not None:
        behind = [name_model(model) for model, found in ranked if found.value >= constant.value]
        if behind:
            text = Markup("{} <b>{} not beat</b> one constant prediction for all conversations (NLL {}).")
            does = "does" if len(behind) == 1 else "do"
            findings.append(Finding(text.format(join_words(behind), does, number(constant.value, 3)), "warning"))
    return findings


def _tell_coverage_of_many(results: EvaluationResults, data: str) -> list[Finding]:
    """A sentence for each level and verdict."""
    findings = []
    for metric, promised in LEVELS.items():
        by_verdict: dict[str, list[Markup]] = {}
        for model in results.names:
            share = results.get(data, model, metric)
            if share:
                told = Markup("{} ({})").format(name_model(model), percent(share.value, 0))
                by_verdict.setdefault(_judge_width(share, promised), []).append(told)
        text = Markup("{} intervals that <b>{}</b>, by the single ratings that they hold: {}.")
        for verdict, models in by_verdict.items():
            told = text.format(percent(promised, 0), verdict, join_words(models))
            findings.append(Finding(told, TONES[verdict]))
    return findings


def _judge_width(share: Measured, promised: float) -> str:
    """Whether the interval of the share that is really inside holds the one that was promised."""
    low, high = share.interval or (share.value, share.value)
    if low <= promised <= high:
        return "are honest"
    return "are too narrow" if high < promised else "are wider than needed"


def _tell_coverage(results: EvaluationResults, data: str, model: str) -> list[Finding]:
    """A sentence for each level: sigma may be right in the tails and wrong in the middle."""
    findings = []
    for metric, promised in (LEVELS | CALIBRATED).items():
        share = results.get(data, model, metric)
        if share is None:
            continue
        shares = f"{percent(share.value, 0)} {format_interval(share.interval, 0)}".strip()
        verdict = _judge_width(share, promised)
        kind = "calibrated " * (metric in CALIBRATED)
        text = Markup("The {}{} intervals of {} hold {} of single ratings: they <b>{}</b>.")
        told = text.format(kind, percent(promised, 0), name_model(model), shares, verdict)
        findings.append(Finding(told, TONES[verdict]))
    return findings
