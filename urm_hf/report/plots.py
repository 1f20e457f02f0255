"""The curves of the report as SVG: risk-coverage, reliability, coverage. Names and legends stand in the page."""

import io
import re
from collections.abc import Callable, Iterable
from typing import Any

from markupsafe import Markup

from urm_hf.evaluation.entries import Curve
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.marks import COLORS, Look, theme_color
from urm_hf.report.tables import looks, measure_looks

INK, MUTED, FAINT = "#1c1e21", "#5a6069", "#8a9099"
SIZE = (4.4, 3.2)  # inches of 72 units: as wide as a phone, so that text is not scaled down
PLACE = (0.13, 0.155, 0.82, 0.825)  # left, bottom, width and height of the axes, as shares of that
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # it holds addresses
MOST_LINES = 5  # of a panel; tables have the rest
LEAST_KEPT = 0.1  # of fewer rows, accuracy is noise
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}


def draw(name: str, title: str, paint: Callable[[Any], None]) -> Markup:
    """
    One panel as inline SVG, whose colors are variables of the page.

    Args:
        name (`str`): makes ids unique on the page.
        title (`str`): what it shows, for those who cannot see it.
        paint (`Callable`): draws on matplotlib's axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes(PLACE)  # a layout that is computed takes two thirds of the time
        axes.grid(color=FAINT, alpha=0.25, lw=0.6)
        axes.set_axisbelow(True)
        paint(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=NO_METADATA)
    return inline(file.getvalue(), name, title)


def inline(svg: str, name: str, title: str) -> Markup:
    """Matplotlib's SVG without prolog, with ids of its own, colors of the page and a title."""
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg class="plot" role="img" {view[0] if view else ""} aria-label="{Markup.escape(title)}">'
    svg = f"{head}<title>{Markup.escape(title)}</title>" + svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    for color in COLORS:
        svg = svg.replace(color, theme_color(color))
    for name, color in (("ink", INK), ("muted", MUTED), ("faint", FAINT)):
        svg = svg.replace(color, f"var(--{name}, {color})")
    return Markup(svg)


def choose_measures(results: EvaluationResults, data: str, model: str) -> list[str]:
    """Those whose curves are drawn: `MOST_LINES` at most, the ones that tell errors best, the best first."""
    curves = results.curves_of(data, model, "risk_coverage")
    aurocs = {variant: results.get(data, model, "auroc_errors", variant=variant) for variant in curves}
    ordered = sorted(curves, key=lambda variant: -found.value if (found := aurocs[variant]) else 0)
    return ordered[:MOST_LINES]


def risk_coverage_plots(results: EvaluationResults, data: str, number: int) -> list[tuple[str, Markup]]:
    """For every model with curves: its name, and accuracy against the share that is kept, a line a measure."""
    found = {}
    for model in results.names:
        curves = results.curves_of(data, model, "risk_coverage")
        if curves:
            found[model] = {variant: curves[variant] for variant in choose_measures(results, data, model)}
    # one scale for all models, so that their panels can be compared
    shown = [_read_kept(curve) for curves in found.values() for curve in curves.values()]
    limits = _compute_limits(y for _, ys, lows, highs in shown for y in (*ys, *lows, *highs))
    colors = measure_looks(results)

    def painter(curves: dict[str, Curve]) -> Callable[[Any], None]:
        def paint(axes):
            for place, (variant, curve) in enumerate(curves.items()):
                x, y, low, high = _read_kept(curve)
                look = colors[variant]
                if place == 0:
                    axes.fill_between(x, low, high, color=_choose_color(look), alpha=0.12, lw=0)
                every = max(1, len(x) // 6)
                _draw_line(axes, x, y, look, markevery=every, ms=5)
            axes.axhline(_read_kept(next(iter(curves.values())))[1][-1], color=FAINT, ls=(0, (4, 3)), lw=1)
            axes.set(xlim=(100 * LEAST_KEPT - 2, 101), ylim=limits, xlabel="kept, the surest first (%)")
            axes.set_ylabel("right among the kept (%)")
            axes.locator_params(axis="y", integer=True, steps=[1, 2, 5, 10])

        return paint

    return [
        (model, draw(f"kept{number}-{place}", f"Accuracy of what is kept: {model} on {data}", painter(curves)))
        for place, (model, curves) in enumerate(found.items())
    ]


def _read_kept(curve: Curve) -> tuple[list[float], list[float], list[float], list[float]]:
    """Shares kept and accuracies with their intervals, in percent, from `LEAST_KEPT` on."""
    rows = []
    for x, error, most, least in zip(curve.x, curve.y, curve.high, curve.low, strict=True):
        if x >= LEAST_KEPT - 1e-9:
            # where a bound is unknown, the band has no width; a high error is a low accuracy
            bounds = (error if bound is None else bound for bound in (error, most, least))
            rows.append([100 * x, *(100 * (1 - bound) for bound in bounds)])
    columns = [list(column) for column in zip(*sorted(rows), strict=True)] or [[], [], [], []]
    return columns[0], columns[1], columns[2], columns[3]


def _compute_limits(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    if not known:
        return 0.0, 101.0
    margin = max(2.0, 0.05 * (max(known) - min(known)))
    return max(0.0, min(known) - margin), min(101.0, max(known) + margin)


def reliability_plots(results: EvaluationResults, data: str, number: int) -> list[tuple[str, str, Markup]]:
    """For every model and kind of probability: name, kind, and accuracy against confidence before and after."""
    plots: list[tuple[str, str, Markup]] = []
    for model in results.names:
        curves = results.curves_of(data, model, "reliability")
        for kind in dict.fromkeys(variant.removesuffix(", tempered") for variant in curves):
            pair = [curves.get(kind), curves.get(f"{kind}, tempered")]
            title = f"Accuracy against confidence, {kind}: {model} on {data}"
            plots.append((model, kind, draw(f"reliable{number}-{len(plots)}", title, _paint_reliability(pair))))
    return plots


def _paint_reliability(pair: list[Curve | None]) -> Callable[[Any], None]:
    def paint(axes):
        lowest = min(x for curve in pair if curve for x in curve.x if x is not None)
        start = 50 if lowest >= 0.5 - 1e-9 else 0
        axes.plot([start, 100], [start, 100], color=FAINT, ls=(0, (4, 3)), lw=1)
        for curve, look in zip(pair, BEFORE_AFTER, strict=True):
            if curve is None:
                continue
            rows = []
            for x, y, low, high in zip(curve.x, curve.y, curve.low, curve.high, strict=True):
                if x is not None and y is not None:  # a bin without rows has none
                    bounds = (y if bound is None else bound for bound in (low, high))
                    rows.append([100 * value for value in (x, y, *bounds)])
            x, y, low, high = zip(*rows, strict=True)
            color = _choose_color(look)
            axes.vlines(x, low, high, color=color, lw=1.2, alpha=0.55)
            _draw_line(axes, x, y, look, ms=6, mfc="none" if look.hollow else color)
        axes.set(xlim=(start - 1, 101), ylim=(-2, 102), xlabel="confidence (%)", ylabel="right (%)")

    return paint


def coverage_plot(results: EvaluationResults, data: str, number: int) -> Markup | None:
    """Share of ratings inside the predicted 50, 68 and 95 % intervals against these: a line a model."""
    nominal = {"coverage50": 50, "coverage68": 68.27, "coverage95": 95}
    found = {}
    for model in results.names:
        rows = [(x, f) for metric, x in nominal.items() if (f := results.get(data, model, metric))]
        if rows:
            found[model] = rows
    if not found:
        return None

    def paint(axes):
        axes.plot([0, 100], [0, 100], color=FAINT, ls=(0, (4, 3)), lw=1)
        for place, (model, rows) in enumerate(found.items()):
            look = looks(results)[model]
            # moved aside by a point or so, so that intervals of several models do not hide one another
            x = [level + 0.9 * (place - (len(found) - 1) / 2) for level, _ in rows]
            for at, (_, f) in zip(x, rows, strict=True):
                if f.interval:
                    axes.vlines(
                        at, 100 * f.interval[0], 100 * f.interval[1], color=_choose_color(look), lw=1.2, alpha=0.6
                    )
            _draw_line(axes, x, [100 * f.value for _, f in rows], look, ms=6)
        axes.set(xlim=(40, 101), ylim=(-2, 102), xlabel="promised (%)", ylabel="ratings inside (%)")
        axes.set_xticks(list(nominal.values()), ["50", "68", "95"])

    return draw(f"coverage{number}", f"Ratings inside predicted intervals on {data}", paint)


BEFORE_AFTER = (Look(1, hollow=True), Look(0))


def _choose_color(look: Look) -> str:
    return MUTED if look.hollow else COLORS[look.number % len(COLORS)]


def _draw_line(axes, x, y, look: Look, **style):
    style = {"mfc": _choose_color(look), "mec": _choose_color(look)} | style
    line = axes.plot(x, y, color=_choose_color(look), marker=look.marker, lw=1.6, **style)[0]
    if look.dashes:
        line.set_dashes([d / 1.6 for d in look.dashes])
