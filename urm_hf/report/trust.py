"""What was found about trust, in sentences: uncertainty, probabilities, and rows that were left out."""

import math

from markupsafe import Markup

from urm_hf.evaluation.entries import DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.text import (
    MANY,
    MARGIN,
    SPACE,
    Finding,
    add_interval,
    format_count,
    format_interval,
    format_value,
    join_words,
    measure_name,
    name_kind,
    name_model,
    number,
    percent,
)

KEPT = "0.8"  # the share that sentences speak of
COIN = math.log(2)  # NLL of always saying one half


def trust_findings(results: EvaluationResults, data: DataEntry) -> list[Finding]:
    """The measure that tells each model's errors apart best, if any does, and what filtering by it buys."""
    # a model none of whose measures has an interval, for want of prompts, is not spoken of
    aurocs = {model: found for model in results.names if (found := _read_aurocs(results, data, model))}
    helped, lost = [], []
    for model, known in aurocs.items():
        # 0.5 is chance: a measure counts as helpful only if noise does not explain it
        helpful = [v for v, found in known.items() if _lower_bound(found) > 0.5]
        if not helpful:
            lost.append(model)
        else:
            told = _tell_best_briefly if len(aurocs) > MANY else _tell_best
            helped.append(told(results, data, model, known, helpful[0]))
    if lost:
        helped.append(_tell_nothing_known({model: aurocs[model] for model in lost}))
    return helped


def _read_aurocs(results: EvaluationResults, data: DataEntry, model: str) -> dict[str, Measured]:
    """How well each measure tells errors, the best first."""
    name = data.name
    variants = results.variants(name, model, "auroc_errors")
    found = {variant: results.get(name, model, "auroc_errors", variant=variant) for variant in variants}
    known = {variant: one for variant, one in found.items() if one and one.interval}
    return dict(sorted(known.items(), key=lambda item: -item[1].value))


def _tell_nothing_known(models: dict[str, dict[str, Measured]]) -> Finding:
    """Of models none of whose measures tells errors from right decisions."""
    counts = sorted({len(known) for known in models.values()})
    best = max((next(iter(known.values())) for known in models.values()), key=lambda found: found.value)
    if counts == [1]:
        tried = "The one measure tried does not tell"
    else:
        of_each = f" or {counts[-1]}" if len(counts) > 1 else ""
        tried = f"None of {counts[0]}{of_each} measures{' of each' if len(models) > 1 else ''} tells"
    text = Markup("{}: <b>no reward is known to be safer than another</b>. {} errors from right decisions {}.")
    told = f"(best AUROC {format_value(best)}; 0.5 is chance)"
    return Finding(text.format(join_words([name_model(model) for model in models]), tried, told), "warning")


def _tell_best(
    results: EvaluationResults, data: DataEntry, model: str, known: dict[str, Measured], best: str
) -> Finding:
    text = Markup("{}: errors are flagged best by {}, AUROC {}; 0.5 is chance. {}").format(
        name_model(model),
        measure_name(best),
        format_value(known[best]),
        _tell_what_keeping_buys(results, data, model, best),
    )
    return Finding(text + _compare_with_margin(known, best), "good")


def _tell_best_briefly(
    results: EvaluationResults, data: DataEntry, model: str, known: dict[str, Measured], best: str
) -> Finding:
    """The same for one of many models."""
    gain = results.get(data.name, model, "accuracy_gain", "kept", KEPT, best)
    margin = known.get(MARGIN)
    text = Markup("{}: flagged best by {}, AUROC {}").format(
        name_model(model), measure_name(best), format_value(known[best])
    )
    if margin and best != MARGIN:
        text += f" (the bare margin: {number(margin.value, 2)})"
    if gain:
        kept = percent(float(KEPT), 0)
        text += Markup("; keeping {} of the pairs changes accuracy by {}").format(kept, _format_gain(gain))
    return Finding(text + ".", "good")


def _tell_what_keeping_buys(results: EvaluationResults, data: DataEntry, model: str, measure: str) -> Markup:
    """What keeping the rows that a measure is surest of does to the accuracy of pairs."""
    kept = results.get(data.name, model, "accuracy_kept", "kept", KEPT, measure)
    gain = results.get(data.name, model, "accuracy_gain", "kept", KEPT, measure)
    if kept is None or gain is None:
        return Markup("")
    return Markup("Keeping the {} of pairs that it is surest of takes accuracy from {} to {}: <b>{}</b>.").format(
        percent(float(KEPT), 0), percent(kept.value - gain.value), percent(kept.value), _format_gain(gain)
    )


def _format_gain(found: Measured) -> str:
    size = add_interval(f"{number(100 * found.value, 1, sign=True)}{SPACE}points", format_interval(found.interval))
    low, high = found.interval or (0.0, 0.0)  # without an interval nothing is said to be more than noise
    if low >= 0.0005 or high <= -0.0005:  # as shown
        return f"{size}, unlikely to be noise"
    return f"{size}, which may be noise"


def _compare_with_margin(known: dict[str, Measured], best: str) -> Markup:
    """How the best measure compares with the margin, which every reward model gives for nothing."""
    others = [variant for variant in known if variant != best]
    if best == MARGIN and others:
        second = max(others, key=lambda v: known[v].value)
        told = f"(best {format_value(known[second])})"
        return Markup(" This needs no uncertainty; what the model says of its own does no better {}.").format(told)
    if MARGIN in others:
        reach = "comes near" if known[MARGIN].value >= _lower_bound(known[best]) else "does less"
        told = format_value(known[MARGIN])
        return Markup(" The bare margin between the rewards, which needs no uncertainty, {} ({}).").format(reach, told)
    return Markup("")


def calibration_findings(results: EvaluationResults, data: DataEntry) -> list[Finding]:
    """Whether probabilities are too sure, and whether they say more than one half: of each model, or of many."""
    judged = [(m, kind) for m in results.names for kind in results.variants(data.name, m, "temperature")]
    if len({model for model, _ in judged}) > MANY:
        return _tell_calibration_of_many(results, data.name, judged)
    findings = [_tell_calibration(results, data.name, model, kind) for model, kind in judged]
    return [finding for finding in findings if finding]


def _tell_calibration_of_many(results: EvaluationResults, data: str, judged: list[tuple[str, str]]) -> list[Finding]:
    """A sentence for each verdict, and one on those that say no more than one half."""
    by_verdict: dict[str, list[Markup]] = {}
    empty = []
    for model, kind in judged:
        temperature = results.get(data, model, "temperature", variant=kind)
        if temperature is None:
            continue
        told = Markup("{} ({}, {})").format(name_model(model), name_kind(kind), number(temperature.value, 2))
        by_verdict.setdefault(_judge_sureness(temperature), []).append(told)
        if _says_nothing(results.get(data, model, "nll", variant=f"{kind}, tempered")):
            empty.append(Markup("{} ({})").format(name_model(model), name_kind(kind)))
    findings = [
        Finding(Markup("<b>{}</b> (temperature): {}.").format(verdict[:1].upper() + verdict[1:], join_words(models)))
        for verdict, models in by_verdict.items()
    ]
    if empty:
        everybody = len(empty) == sum(map(len, by_verdict.values()))
        which = "no model" if everybody else join_words(empty, "or")
        shown = "shown" if everybody else "not shown"
        text = Markup("After temperature, the probabilities of {} are <b>{}</b> (NLL {}).").format(
            which, f"{shown} to say more than “one half” always", number(COIN, 3)
        )
        findings.append(Finding(text, "warning"))
    return findings


def _says_nothing(nll: Measured | None) -> bool:
    """Whether always saying one half might do as well."""
    return nll is not None and (nll.interval[1] if nll.interval else nll.value) >= COIN


def _tell_calibration(results: EvaluationResults, data: str, model: str, kind: str) -> Finding | None:
    temperature = results.get(data, model, "temperature", variant=kind)
    before, after = (results.get(data, model, "ece", variant=variant) for variant in (kind, f"{kind}, tempered"))
    if temperature is None or before is None or after is None:
        return None
    text = Markup(
        "{}, {} probabilities: <b>{}</b> (temperature {}). Calibration error: {} as given, {} after temperature"
    )
    text = text.format(
        name_model(model),
        name_kind(kind),
        _judge_sureness(temperature),
        format_value(temperature),
        *map(_format_share, (before, after)),
    )
    perfect = results.get(data, model, "ece_of_perfect", variant=f"{kind}, tempered")
    text += f"; perfect ones would show {_format_share(perfect)} on so many pairs." if perfect else "."
    nll = results.get(data, model, "nll", variant=f"{kind}, tempered")
    if nll and _says_nothing(nll):
        text += Markup(" Even then they are <b>not shown to say more than “one half” always</b> (NLL {}; {}).").format(
            add_interval(number(nll.value, 3), format_interval(nll.interval, 3, 1)), f"one half: {number(COIN, 3)}"
        )
        return Finding(text, "warning")
    return Finding(text)


def _judge_sureness(temperature: Measured) -> str:
    # without an interval, a tenth more or less passes for 1
    low, high = temperature.interval or (temperature.value / 1.1, temperature.value * 1.1)
    if low > 1:
        return "too sure"
    if high < 1:
        return "not sure enough"
    return "about as sure as they should be"


def row_findings(results: EvaluationResults, data: DataEntry) -> list[Finding]:
    """Rows left out, cut or tied, where there are any."""
    findings = []
    if data.prompts < 2:
        text = Markup("{} has <b>one prompt only</b>: nothing here says how it would be with others.")
        findings.append(Finding(text.format(name_model(data.name)), "warning"))
    skipped = data.skipped
    if any(skipped.values()):
        reasons = join_words([f"{count} ({reason})" for reason, count in skipped.items() if count])
        rows = format_count(sum(skipped.values()), "row")
        text = Markup("{} of {} left out: {}.").format(rows, name_model(data.name), reasons)
        findings.append(Finding(text, "warning"))
    findings += [Finding(Markup("{}: {}").format(name_model(data.name), told)) for told in data.remarks]
    for model, notes in data.notes.items():
        heading = name_model(model), name_model(data.name)
        findings += [Finding(Markup("{} on {}: {}.").format(*heading, told), "warning") for told in notes]
    for metric, told in (("truncated", "cut to fit"), ("tied", "tied, and counted as wrong")):
        found = [(model, results.get(data.name, model, metric)) for model in results.names]
        parts = [Markup("{} ({})").format(percent(f.value), name_model(m)) for m, f in found if f and f.value > 0]
        if parts:
            what = "Conversations" if metric == "truncated" else "Decisions"
            findings.append(Finding(Markup("{} {}: {}.").format(what, told, join_words(parts)), "warning"))
    return findings


def _lower_bound(found: Measured) -> float:
    return found.interval[0] if found.interval else found.value


def _format_share(found: Measured) -> str:
    return percent(found.value)
