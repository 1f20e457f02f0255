"""What was found about accuracy, in sentences: who is right more often, whether that is noise, and what is beaten."""

from collections.abc import Sequence

from markupsafe import Markup

from urm_hf.evaluation.entries import DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import CHANCE, EvaluationResults
from urm_hf.report.text import (
    READING,
    RULES,
    Finding,
    add_interval,
    certainty,
    format_count,
    format_interval,
    format_share,
    format_test,
    join_words,
    name_model,
    percent,
    points,
)

Ranked = Sequence[tuple[str, Measured]]


def accuracy_findings(results: EvaluationResults, data: DataEntry) -> list[Finding]:
    """The answer for one data set of preferences: ranking, comparison, and what does not beat the baselines."""
    ranked = results.rank(data.name)
    if not ranked:
        return []
    findings = [_tell_ranking(results, ranked, data)]
    if len(ranked) == 2:
        findings.append(_compare_two(results, data, ranked))
    elif len(ranked) > 2:
        findings.append(_compare_many(results, data, ranked))
    rules = [name for name in results.baselines if name != CHANCE]
    against = [_compare_with_rule(results, data.name, ranked, rule) for rule in rules]
    return [*findings, *filter(None, [*against, _compare_with_chance(results, data.name, ranked)])]


def overview(results: EvaluationResults) -> list[Finding]:
    """The answer over several data sets: who is most often right on how many of them."""
    ahead: dict[str, list[bool]] = {model: [] for model in results.names}
    for data in results.preferences:
        ranked = results.rank(data.name)
        if len(ranked) < 2:  # nobody leads alone
            continue
        compared = [results.compare(data.name, ranked[0][0], other) for other, _ in ranked[1:]]
        ahead[ranked[0][0]].append(all(found is not None and certainty(found) == "sure" for found in compared))
    total = sum(map(len, ahead.values()))
    if total < 2:
        return []
    leads = sum(map(sum, ahead.values()))
    parts: list[Markup] = []
    for model, sure in sorted(ahead.items(), key=lambda item: -len(item[1])):
        if sure:
            how = "on {}" if parts else "has the highest accuracy on {} data sets"
            count = Markup("<b>{} of {}</b>").format(len(sure), total) if not parts else len(sure)
            noise = f" (ahead of all others by more than noise on {sum(sure)})" if leads else ""
            parts.append(Markup("{} {}{}").format(name_model(model), Markup(how).format(count), noise))
    text = Markup(", ").join(parts) + "."
    if not leads:
        text += Markup(" No lead over all others is <b>more than noise</b>.")
    return [Finding(text)]


def _tell_ranking(results: EvaluationResults, ranked: Ranked, data: DataEntry) -> Finding:
    (best, value), *others = ranked
    noun = format_count(value.n, data.noun)
    mean = f" ({data.mean})" if data.mean else ""
    if "prior set" in (levels := results.groups(data.name, "accuracy")) and "section" not in levels:
        mean = " (the mean of its prior sets)"
    text = Markup("{} is right on <b>{}</b> of {}{}").format(
        name_model(best), percent(value.value), noun, add_interval(mean, format_interval(value.interval))
    )
    # up to three are named with their numbers; of more, a sentence would be a table, and that follows anyway
    if len(others) in (1, 2):
        parts = [Markup("{} on {}").format(name_model(name), format_share(found)) for name, found in others]
        text = Markup("{}; {}").format(text, join_words(parts))
    elif others:
        (second, found), last = others[0], others[-1][1]
        text += Markup("; {} comes next with {}, and the other {} reach {} to {}").format(
            name_model(second), format_share(found), len(others) - 1, percent(last.value), percent(others[1][1].value)
        )
    return Finding(text + ".")


def _compare_two(results: EvaluationResults, data: DataEntry, ranked: Ranked) -> Finding:
    (a, _), (b, _) = ranked
    compared = results.compare(data.name, a, b)
    if compared is None:
        return Finding(Markup("No paired test of the two was made."))
    kind = certainty(compared)
    size = add_interval(points(compared.difference), format_interval(compared.interval))
    if kind == "equal":
        text = Markup("They are right equally often (a difference of {}).").format(size)
    else:
        text = Markup("The difference of {} <b>{}</b> ({}).").format(size, READING[kind], format_test(compared))
    alone = (compared.only_a or 0) + (compared.only_b or 0)
    if not alone:
        return Finding(text + " They agree on every one.")
    text += Markup(" They disagree on {}: {} is right on {} of these, {} on {}.").format(
        format_count(alone, data.noun), name_model(a), compared.only_a, name_model(b), compared.only_b
    )
    return Finding(text, "good" if kind == "sure" else "plain")


def _compare_many(results: EvaluationResults, data: DataEntry, ranked: Ranked) -> Finding:
    best = ranked[0][0]
    by_kind: dict[str, list[Markup]] = {}
    for other, _ in ranked[1:]:
        compared = results.compare(data.name, best, other)
        by_kind.setdefault(certainty(compared) if compared else "untested", []).append(name_model(other))
    endings = {
        "sure": "is unlikely to be noise",
        "borderline": "is borderline: interval and test disagree",
        "many": "may be noise among so many comparisons",
        "noise": "may be noise",
        "equal": "is zero",
        "untested": "was not tested",
    }
    parts = [
        Markup("over {} <b>{}</b>").format(_join_others(by_kind[kind], len(ranked) - 1), ending)
        for kind, ending in endings.items()
        if kind in by_kind
    ]
    text = Markup("The lead of {} {}. All comparisons are below.").format(name_model(best), Markup("; ").join(parts))
    return Finding(text, "good" if set(by_kind) == {"sure"} else "plain")


def _join_others(names: list[Markup], count: int) -> str | Markup:
    return "all others" if len(names) == count > 1 else join_words(names)


def standing(results: EvaluationResults, data: str, model: str, found: Measured, rule: str, base: Measured) -> str:
    """How a model does against a baseline: "below" (or level), "unproven" or "above" by more than noise."""
    compared = results.compare(data, model, rule)
    ahead = compared.difference if compared else found.value - base.value
    if ahead <= 0:
        return "below"
    if compared is not None:
        return "above" if certainty(compared) == "sure" else "unproven"
    return "above" if found.interval and found.interval[0] > base.value else "unproven"


def _compare_with_rule(results: EvaluationResults, data: str, ranked: Ranked, rule: str) -> Finding | None:
    base = results.get(data, rule, "accuracy")
    if base is None:
        return None
    by_standing: dict[str, list[str]] = {"below": [], "unproven": [], "above": []}
    for model, found in ranked:
        by_standing[standing(results, data, model, found, rule, base)].append(model)
    name = RULES.get(rule) or Markup("the baseline {}").format(name_model(rule))
    told = Markup("{}, which needs no model and is right on {}").format(name, format_share(base))
    below, unproven, above = by_standing.values()
    if below:
        text = Markup("{} {}.").format(_join_not(below, ranked, "beats", "does not beat", "do not beat"), told)
        rest = [(unproven, "above it by a margin that may be noise"), (above, "above it by more than noise")]
        parts = [Markup("{} {}").format(_join_are(names), how) for names, how in rest if names]
        return Finding(text + (Markup(" {}.").format(Markup("; ").join(parts)) if parts else ""), "warning")
    if unproven:
        text = Markup("{} above {}, but the margin <b>may be noise</b>").format(_join_are(unproven, ranked), told)
        rest_above = Markup("; {} above it by more than noise").format(_join_are(above)) if above else ""
        return Finding(_capitalize(text + rest_above + "."), "plain" if above else "warning")
    text = Markup("{} is right on {} without any model; {} <b>above that</b> by more than noise.")
    return Finding(_capitalize(text.format(name, format_share(base), _join_are(above, ranked))), "good")


def _join_not(models: list[str], ranked: Ranked, of_none: str, of_one: str, of_several: str) -> Markup:
    """ "a does not beat", "a and b do not beat", "none of the 3 models beats"."""
    if len(models) == len(ranked) > 2:
        return Markup("<b>None of the {} models {}</b>").format(len(models), of_none)
    verb = of_one if len(models) == 1 else of_several
    return Markup("{} <b>{}</b>").format(join_words([name_model(model) for model in models]), verb)


def _join_are(models: list[str], ranked: Ranked = ()) -> Markup:
    if len(models) == len(ranked) > 2:
        return Markup("all {} models are").format(len(models))
    return Markup("{} {}").format(
        join_words([name_model(model) for model in models]), "is" if len(models) == 1 else "are"
    )


def _capitalize(text: Markup) -> Markup:
    """A sentence that may begin with "all"; names of models stay as they are."""
    return Markup(text[:1].upper() + text[1:]) if text.startswith(("all ", "always ", "the ")) else text


def _compare_with_chance(results: EvaluationResults, data: str, ranked: Ranked) -> Finding | None:
    """Only where a model is not better than guessing; better is what everybody expects."""
    chance = results.chance(data)
    if chance is None:
        return None
    unsure = [m for m, found in ranked if found.interval and found.interval[0] <= chance <= found.interval[1]]
    worse = [m for m, found in ranked if found.interval and found.interval[1] < chance]
    parts = []
    if unsure:
        not_told = _join_not(unsure, ranked, "is told apart", "is not told apart", "are not told apart")
        parts.append(Markup("{} <b>from guessing</b> ({})").format(not_told, percent(chance)))
    if worse:
        parts.append(Markup("{} <b>worse than guessing</b> ({})").format(_join_are(worse), percent(chance)))
    return Finding(Markup("; ").join(parts) + ".", "warning") if parts else None
