"""What was found about trust, in sentences: uncertainty, probabilities, and rows that were left out."""

import math
from typing import Any

from markupsafe import Markup

from urm_hf.evaluation.measured import Measured
from urm_hf.report.results_view import ResultsView
from urm_hf.report.text import (
    MARGIN,
    Finding,
    between,
    counted,
    listed,
    measure_name,
    named,
    number,
    percent,
    proper,
    with_interval,
)

KEPT = "0.8"  # the share that sentences speak of
COIN = math.log(2)  # NLL of always saying one half


def trust_findings(view: ResultsView, data: dict[str, Any]) -> list[Finding]:
    """For each model: the measure that tells its errors apart best, if any does, and what filtering by it buys."""
    found = [_trust(view, data, model) for model in view.models]
    return [finding for finding in found if finding]


def _trust(view: ResultsView, data: dict[str, Any], model: str) -> Finding | None:
    name = data["name"]
    measured = {
        v: view.get(name, model, "auroc_errors", variant=v) for v in view.variants(name, model, "auroc_errors")
    }
    known = {variant: found for variant, found in measured.items() if found and found.interval}
    if not known:
        return None
    aurocs = {variant: found.value for variant, found in known.items()}
    helpful = [v for v in sorted(aurocs, key=lambda v: -aurocs[v]) if _low(known[v]) > 0.5]
    if not helpful:
        tried = "The one measure tried does not tell" if len(known) == 1 else f"None of {len(known)} measures tells"
        best = max(aurocs, key=lambda v: aurocs[v])
        text = Markup("{}: <b>no reward is known to be safer than another</b>. {} errors from right decisions {}.")
        told = f"(best AUROC {_plain(known[best])}; 0.5 is chance)"
        return Finding(text.format(named(model), tried, told), "warning")
    best = helpful[0]
    text = Markup("{}: errors are flagged best by {}, AUROC {}; 0.5 is chance. {}").format(
        named(model), measure_name(best), _plain(known[best]), _bought(view, data, model, best)
    )
    return Finding(text + _rivals(known, best), "good")


def _bought(view: ResultsView, data: dict[str, Any], model: str, measure: str) -> Markup:
    """What keeping the rows that a measure is surest of does to the accuracy of pairs."""
    kept = view.get(data["name"], model, "accuracy_kept", "kept", KEPT, measure)
    everything = accuracy_of_all(view, data["name"], model, measure)
    if kept is None or everything is None:
        return Markup("")
    gain = kept.value - everything
    verb = "raises accuracy" if gain > 0.0005 else "lowers accuracy" if gain < -0.0005 else "leaves accuracy as it is:"
    return Markup("Keeping the {} of pairs that it is surest of <b>{} from {} to {}</b>.").format(
        percent(float(KEPT), 0), verb, percent(everything), _share(kept)
    )


def accuracy_of_all(view: ResultsView, data: str, model: str, measure: str) -> float | None:
    """Accuracy with nothing dropped, each item counted once: the end of the risk-coverage curve."""
    curve = view.curves(data, model, "risk_coverage").get(measure)
    if curve and curve["x"] and max(curve["x"]) > 0.999:
        return 1 - curve["y"][curve["x"].index(max(curve["x"]))]
    found = view.get(data, model, "accuracy")
    return found.value if found else None


def _rivals(known: dict[str, Measured], best: str) -> Markup:
    """How the best measure compares with the margin, which every reward model gives for nothing."""
    others = [variant for variant in known if variant != best]
    if best == MARGIN and others:
        second = max(others, key=lambda v: known[v].value)
        told = f"(best {_plain(known[second])})"
        return Markup(" This needs no uncertainty; what the model says of its own does no better {}.").format(told)
    if MARGIN in others:
        reach = "comes near" if known[MARGIN].value >= _low(known[best]) else "does less"
        told = _plain(known[MARGIN])
        return Markup(" The bare margin between the rewards, which needs no uncertainty, {} ({}).").format(reach, told)
    return Markup("")


def calibration_findings(view: ResultsView, data: dict[str, Any]) -> list[Finding]:
    """For each model: whether its probabilities are too sure, and whether they say more than one half."""
    findings = []
    for model in view.models:
        for kind in view.variants(data["name"], model, "temperature"):
            found = _calibration(view, data["name"], model, kind)
            if found:
                findings.append(found)
    return findings


def _calibration(view: ResultsView, data: str, model: str, kind: str) -> Finding | None:
    temperature = view.get(data, model, "temperature", variant=kind)
    before, after = (view.get(data, model, "ece", variant=variant) for variant in (kind, f"{kind}, tempered"))
    if temperature is None or before is None or after is None:
        return None
    text = Markup(
        "{}, {} probabilities: <b>{}</b> (temperature {}). Calibration error: {} as given, {} after temperature"
    )
    text = text.format(
        named(model), proper(kind), _sureness(temperature), _plain(temperature), *map(_share_only, (before, after))
    )
    perfect = view.get(data, model, "ece_of_perfect", variant=f"{kind}, tempered")
    text += f"; perfect ones would show {_share_only(perfect)} on so many pairs." if perfect else "."
    nll = view.get(data, model, "nll", variant=f"{kind}, tempered")
    if nll and (nll.interval[1] if nll.interval else nll.value) >= COIN:
        text += Markup(" Even then they are <b>not shown to say more than “one half” always</b> (NLL {}; {}).").format(
            with_interval(number(nll.value, 3), between(nll.interval, 3, 1)), f"one half: {number(COIN, 3)}"
        )
        return Finding(text, "warning")
    return Finding(text)


def _sureness(temperature: Measured) -> str:
    low, high = temperature.interval or (temperature.value / 1.1, temperature.value * 1.1)
    return "too sure" if low > 1 else "not sure enough" if high < 1 else "about as sure as they should be"


def row_findings(view: ResultsView, data: dict[str, Any]) -> list[Finding]:
    """Rows left out, cut or tied, where there are any."""
    findings = []
    skipped = data.get("skipped") or {}
    if any(skipped.values()):
        reasons = listed([f"{count} ({reason})" for reason, count in skipped.items() if count])
        rows = counted(sum(skipped.values()), "row")
        text = Markup("{} of {} left out: {}.").format(rows, named(data["name"]), reasons)
        findings.append(Finding(text, "warning"))
    findings += [Finding(Markup("{}: {}").format(named(data["name"]), told)) for told in data.get("remarks") or []]
    for metric, told in (("truncated", "cut to fit"), ("tied", "tied, and counted as wrong")):
        found = [(model, view.get(data["name"], model, metric)) for model in view.models]
        parts = [Markup("{} ({})").format(percent(f.value), named(m)) for m, f in found if f and f.value > 0]
        if parts:
            what = "Conversations" if metric == "truncated" else "Decisions"
            findings.append(Finding(Markup("{} {}: {}.").format(what, told, listed(parts)), "warning"))
    return findings


def _low(found: Measured) -> float:
    return found.interval[0] if found.interval else found.value


def _plain(found: Measured) -> str:
    return with_interval(number(found.value, 2), between(found.interval, 2, 1))


def _share_only(found: Measured) -> str:
    return percent(found.value)


def _share(found: Measured) -> str:
    return with_interval(percent(found.value), between(found.interval))
