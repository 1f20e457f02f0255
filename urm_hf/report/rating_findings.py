"""What was found about ratings, in sentences: who follows the annotators, how near to the ceiling, how honestly."""

from typing import Any

from markupsafe import Markup

from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import ResultsView
from urm_hf.report.text import (
    MANY,
    READING,
    SPACE,
    Finding,
    between,
    certainty,
    counted,
    listed,
    named,
    number,
    percent,
    test_of,
    value_of,
    with_interval,
)

TONES = {"are honest": "good", "are too narrow": "warning"}
CONSTANT = "constant"  # the baseline that predicts the same of every conversation


def rating_findings(view: ResultsView, data: dict[str, Any]) -> list[Finding]:
    """How well means follow the annotators, beside what an annotator achieves, and whether intervals hold."""
    name = data["name"]
    findings = [_means(view, name), _ceiling(view, name), *_likelihoods(view, name)]
    if sum(view.get(name, model, "coverage95") is not None for model in view.models) > MANY:
        findings += _coverage_of_many(view, name)
    else:
        findings += [_coverage(view, name, model) for model in view.models]
    return [finding for finding in findings if finding]


def pearson(view: ResultsView, data: str, model: str, attribute: str | None = None) -> Measured | None:
    """Of predicted and mean ratings; of the reward, if the model predicts none."""
    level = None if attribute is None else "attribute"
    own = view.get(data, model, "pearson", level, attribute)
    return own or view.get(data, model, "pearson", level, attribute, "reward")


def _means(view: ResultsView, data: str) -> Finding | None:
    found = [(model, r) for model in view.models if (r := pearson(view, data, model))]
    if not found:
        return None
    found.sort(key=lambda pair: -pair[1].value)
    parts = [
        Markup("{}{} with r{}={}{}").format(
            named(model), " (its reward)" if r.variant else "", SPACE, SPACE, value_of(r)
        )
        for model, r in found
    ]
    text = Markup("Agreement with the mean ratings of {}: {}.").format(
        counted(found[0][1].n, "conversation"), listed(parts)
    )
    unproven = [named(model) for model, r in found if r.interval and r.interval[0] <= 0]
    if unproven:
        is_shown = "is not shown" if len(unproven) == 1 else "are not shown"
        text += Markup(" {} <b>{} to follow them at all</b>.").format(listed(unproven), is_shown)
    return Finding(text + _overlap([r for _, r in found]), "warning" if unproven else "plain")


def _overlap(found: list[Measured]) -> Markup:
    if len(found) < 2 or not found[0].interval or not found[1].interval:
        return Markup("")
    if found[0].interval[0] > found[1].interval[1]:
        return Markup(" The intervals of the first two do not overlap: the lead <b>is unlikely to be noise</b>.")
    return Markup(" The intervals of the first two overlap: the lead <b>may be noise</b>.")


def _ceiling(view: ResultsView, data: str) -> Finding | None:
    ceiling = view.whosesoever(data, "noise_ceiling_pearson")
    single = [(model, r) for model in view.models if (r := view.get(data, model, "single_pearson"))]
    if ceiling is None:
        return None
    told = Markup("Annotators, each predicted by the others, reach r{}={}{}: the noise ceiling.").format(
        SPACE, SPACE, value_of(ceiling)
    )
    if single:
        parts = [Markup("{} reaches {}").format(named(model), value_of(r)) for model, r in single]
        told += Markup(" Against the same single ratings {}.").format(listed(parts))
    return Finding(told)


def _likelihoods(view: ResultsView, data: str) -> list[Finding]:
    """The first two by NLL, and those that do not beat the constant prediction."""
    ranked = view.ranked(data, "nll")[::-1]
    findings = []
    if len(ranked) > 1:
        (a, _), (b, _) = ranked[:2]
        compared = view.comparison(data, b, a)  # turned, as lower is better
        if compared:
            size = with_interval(number(compared["difference"], 3), between(compared["interval"], 3, 1))
            text = Markup("By likelihood, {} is ahead of {}: its NLL is lower by {}, which <b>{}</b> ({}).")
            kind = certainty(compared)
            told = text.format(named(a), named(b), size, READING.get(kind, "is nil"), test_of(compared))
            findings.append(Finding(told, "good" if kind == "sure" else "plain"))
    constant = view.get(data, CONSTANT, "nll")
    if constant is not None:
        behind = [named(model) for model, found in ranked if found.value >= constant.value]
        if behind:
            text = Markup("{} <b>{} not beat</b> one constant prediction for all conversations (NLL {}).")
            does = "does" if len(behind) == 1 else "do"
            findings.append(Finding(text.format(listed(behind), does, number(constant.value, 3)), "warning"))
    return findings


def _coverage_of_many(view: ResultsView, data: str) -> list[Finding]:
    by_verdict: dict[str, list[Markup]] = {}
    for model in view.models:
        found = view.get(data, model, "coverage95")
        if found:
            told = Markup("{} ({})").format(named(model), percent(found.value, 0))
            by_verdict.setdefault(_honesty(found), []).append(told)
    text = Markup("95{}% intervals that <b>{}</b>, by the single ratings that they hold: {}.")
    return [
        Finding(text.format(SPACE, verdict, listed(models)), TONES.get(verdict, "plain"))
        for verdict, models in by_verdict.items()
    ]


def _honesty(found: Measured) -> str:
    low, high = found.interval or (found.value, found.value)
    return "are honest" if low <= 0.95 <= high else "are too narrow" if high < 0.95 else "are wider than needed"


def _coverage(view: ResultsView, data: str, model: str) -> Finding | None:
    found = view.get(data, model, "coverage95")
    if found is None:
        return None
    shares = f"{percent(found.value, 0)} {between(found.interval, 0)}".strip()
    verdict = _honesty(found)
    text = Markup("The 95{}% intervals of {} hold {} of single ratings: they <b>{}</b>.")
    return Finding(text.format(SPACE, named(model), shares, verdict), TONES.get(verdict, "plain"))
