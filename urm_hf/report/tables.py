"""The tables of the report on preferences, from the numbers of an evaluation: accuracy, comparisons, trust, rows."""

from collections.abc import Iterable

from markupsafe import Markup

from urm_hf.evaluation.entries import Comparison, DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import CHANCE, EvaluationResults
from urm_hf.report.marks import Axis, Cell, Column, Look, Mark, Table, build_axis
from urm_hf.report.text import (
    MEASURE_WORDS,
    breakable,
    certainty,
    format_count,
    format_interval,
    number,
    p_value,
    percent,
)

KEPT, GAIN = ("0.9", "0.8", "0.5"), "0.8"
SHORT_READING = {
    "sure": "unlikely to be noise",
    "many": "may be noise among so many",
    "noise": "may be noise",
    "borderline": "borderline",
    "equal": "equal",
}


def looks(results: EvaluationResults) -> dict[str, Look]:
    """The shape and color of every model; baselines are hollow and grey."""
    solid = {name: Look(number) for number, name in enumerate(results.names)}
    return solid | {name: Look(number + 1, hollow=True) for number, name in enumerate(results.baselines)}


def measure_looks(results: EvaluationResults) -> dict[str, Look]:
    """The shape and color of every measure that rows are kept by, the same for all models and data sets."""
    measured = [entry.measured for entry in results.metrics]
    variants = [one.variant for one in measured if one.metric in ("auroc_errors", "accuracy_kept")]
    variants += [curve.variant for curve in results.curves if curve.curve == "risk_coverage"]
    return {variant: Look(place) for place, variant in enumerate(dict.fromkeys(filter(None, variants)))}


def share_cell(found: Measured | None, digits: int = 1) -> Cell:
    """A share as a percentage without its sign, which the column's head has."""
    return Cell(number(100 * found.value, digits), format_interval(found.interval, digits)) if found else Cell("–")


def plain_cell(found: Measured | None, digits: int) -> Cell:
    return Cell(number(found.value, digits), format_interval(found.interval, digits, 1)) if found else Cell("–")


def mark(name: str, found: Measured, look: Look) -> Mark:
    told = f"{name}: {percent(found.value)} {format_interval(found.interval)}".strip()
    return Mark(found.value, found.interval, look, told)


def extent(found: Iterable[Measured | None]) -> list[float]:
    """The values and the ends of the intervals, for an axis."""
    known = [value for value in found if value]
    return [value for f in known for value in (f.value, *(f.interval or ()))]


def overall_table(results: EvaluationResults, data: DataEntry) -> Table:
    """The accuracy of every model and baseline on one data set, the highest first."""
    name, look = data.name, looks(results)
    rules = [(rule, results.get(name, rule, "accuracy")) for rule in results.baselines]
    rows = [*results.rank(name), *((rule, found) for rule, found in rules if found)]
    axis = build_axis(extent(found for _, found in rows), results.chance(name))
    titles = {"tied": "tied", "truncated": "cut"}
    extra = [(metric, title) for metric, title in titles.items() if has_any(results, data, results.names, metric)]
    sizes = {found.n for model, found in rows if model != CHANCE}
    columns = [
        Column("model", text=True),
        Column("right, %", "95 % interval"),
        Column("accuracy, %", axis=axis),
        *[Column(f"{data.noun}s")] * (len(sizes) > 1),
        *(Column(f"{title}, %") for _, title in extra),
    ]
    body = []
    for model, found in rows:
        dots = () if model == CHANCE else (mark(model, found, look[model]),)
        more = [share_cell(results.get(name, model, metric)) for metric, _ in extra]
        size = [Cell("" if model == CHANCE else f"{found.n}")] * (len(sizes) > 1)
        body.append([Cell(breakable(model), look=look[model]), share_cell(found), Cell(marks=dots), *size, *more])
    counted_once = f", {format_count(sizes.pop(), data.noun)}" if len(sizes) == 1 else ""
    return Table(f"Accuracy on {name}{counted_once}", columns, {"": body}, _explain_chance(results, name))


def has_any(results: EvaluationResults, data: DataEntry, models: Iterable[str], metric: str) -> bool:
    """Whether a share is above 0 for any of the models."""
    found = (results.get(data.name, model, metric) for model in models)
    return any(value and value.value > 0 for value in found)


def _explain_chance(results: EvaluationResults, data: str) -> str:
    chance = results.chance(data)
    return f"Dots with 95 % intervals; the dashed line is guessing ({percent(chance)})." if chance is not None else ""


def every_data_table(results: EvaluationResults) -> Table:
    """The accuracy of all models on all data sets of preferences: a row a data set."""
    places = [(data.name, data.name, None, None) for data in results.preferences]
    return _build_matrix(results, "Accuracy on every data set, %", "data set", {"": places})


def subset_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """The accuracy of all models by section, subset, ...: a row a group."""
    levels = results.groups(data.name, "accuracy")
    if not levels:
        return None
    groups = {f"by {level}": [(g, data.name, level, g) for g in found] for level, found in levels.items()}
    return _build_matrix(results, f"Accuracy on parts of {data.name}, %", "part", groups)


def _build_matrix(results: EvaluationResults, caption: str, head: str, groups: dict) -> Table:
    """groups: for each heading, rows as (label, data, level, group)."""
    look = looks(results)
    every = [row[1:] for rows in groups.values() for row in rows]
    names = []
    for name in [*results.names, *results.baselines]:
        if any(results.get(d, name, "accuracy", level, group) for d, level, group in every):
            names.append(name)
    shown = [name for name in names if name != CHANCE]
    chances = {results.chance(d) for d, _, _ in every}
    # parts may have more or fewer answers to choose from than the whole, and so another chance
    reference = chances.pop() if len(chances) == 1 and head != "part" else None
    dotted = [results.get(d, name, "accuracy", level, group) for d, level, group in every for name in shown]
    axis = build_axis(extent(dotted), reference)
    columns = [Column(head, text=True), Column("n"), Column("accuracy, %", axis=axis)]
    columns += [Column(breakable(name), look=look[name]) for name in names]
    body: dict[str | Markup, list[list[Cell]]] = {}
    for heading, rows in groups.items():
        body[heading] = []
        for label, d, level, group in rows:
            found = {name: results.get(d, name, "accuracy", level, group) for name in names}
            n = next((f"{f.n}" for f in found.values() if f), "")
            dots = [mark(name, value, look[name]) for name in shown if (value := found[name])]
            body[heading].append(
                [Cell(breakable(label)), Cell(n), Cell(marks=dots), *(share_cell(found[name]) for name in names)]
            )
    return Table(caption, columns, body)


def comparison_tables(results: EvaluationResults, data: DataEntry) -> tuple[Table, Table | None]:
    """The comparisons of the best model, and all others where there are more than a few."""
    found = results.comparisons_on(data.name)
    rank = {model: place for place, (model, _) in enumerate(results.rank(data.name))}
    first = next(iter(rank), None)
    ordered = [_put_best_first(results, data.name, c, rank) for c in found]
    ordered.sort(key=lambda c: (rank.get(c.model_a, 99), rank.get(c.model_b, 99)))
    values = [v for c in ordered for v in (c.difference, *(c.interval or ()))]
    axis = build_axis(values, 0.0, limits=(-1.0, 1.0))
    best = [c for c in ordered if c.model_a == first]
    rest = [c for c in ordered if c.model_a != first]
    if len(ordered) <= 4 or not rest:
        return _build_comparisons(results, data, ordered, axis, f"Comparisons on {data.name}"), None
    return (
        _build_comparisons(results, data, best, axis, f"The best model against all others on {data.name}"),
        _build_comparisons(results, data, rest, axis, f"All other comparisons on {data.name}"),
    )


def _put_best_first(results: EvaluationResults, data: str, comparison: Comparison, rank: dict[str, int]) -> Comparison:
    a, b = comparison.model_a, comparison.model_b
    first, second = (b, a) if rank.get(b, 99) < rank.get(a, 99) else (a, b)
    return results.compare(data, first, second) or comparison


def _build_comparisons(
    results: EvaluationResults, data: DataEntry, found: list[Comparison], axis: Axis, caption: str
) -> Table:
    look, noun = looks(results), f"{data.noun}s"
    adjusted = any(c.p_adjusted not in (None, c.p_value) for c in found)
    columns = [
        Column("a", text=True),
        Column("against b", text=True),
        Column("a − b, points", "95 % interval"),
        Column("difference, points", axis=axis),
        Column("reading", text=True),
        Column("p", "adjusted" if adjusted else ""),
        Column("only a right", noun),
        Column("only b right", noun),
    ]
    rows = []
    for c in found:
        size = Cell(number(100 * c.difference, 1, sign=True), format_interval(c.interval))
        told = f"{c.model_a} against {c.model_b}: {size.text} points {size.detail}"
        dot = Mark(c.difference, c.interval, look[c.model_a], told)
        rows.append(
            [
                Cell(breakable(c.model_a), look=look[c.model_a]),
                Cell(breakable(c.model_b), look=look[c.model_b]),
                size,
                Cell(marks=(dot,)),
                Cell(SHORT_READING[certainty(c)]),
                Cell(p_cell(c)),
                Cell(f"{c.only_a}"),
                Cell(f"{c.only_b}"),
            ]
        )
    tests = ", ".join(sorted({c.test for c in found}))
    return Table(caption, columns, {"": rows}, f"Dots right of the dashed line: a is better. Test: {tests}.")


def p_cell(comparison: Comparison) -> str:
    """The p-value, adjusted where it was, without "p =", which the column's head has."""
    adjusted = comparison.p_adjusted
    text = p_value(comparison.p_value if adjusted is None else adjusted)
    return text.removeprefix("p").lstrip("\N{NO-BREAK SPACE}=")


def trust_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """For every model and measure: AUROC for errors, areas under risk-coverage, accuracy of what is kept."""
    name, found = data.name, []
    groups: dict[str | Markup, list[list[Cell]]] = {}
    for model in results.names:
        variants = dict.fromkeys(
            v for metric in ("auroc_errors", "accuracy_kept") for v in results.variants(name, model, metric)
        )
        if variants:
            groups[breakable(model)] = [_build_trust_row(results, name, model, variant) for variant in variants]
            found += [results.get(name, model, "auroc_errors", variant=variant) for variant in variants]
    if not groups:
        return None
    axis = build_axis(extent(found) or [0.4, 0.6], 0.5, factor=1)
    columns = [
        Column("dropped first: high", text=True),
        Column("AUROC", "for errors, ↑"),
        Column("AUROC", axis=axis),
        *(Column(f"keep {percent(float(share), 0)}", "right, %") for share in KEPT),
        Column("gain", f"at {percent(float(GAIN), 0)}, points"),
        Column("AURC", "↓"),
        Column("excess", "over the ideal, ↓"),
    ]
    note = "AUROC: how well the measure tells wrong decisions from right ones; 0.5 (dashed) is chance."
    return Table(f"How errors are flagged on {name}", columns, groups, note)


def _build_trust_row(results: EvaluationResults, data: str, model: str, variant: str) -> list[Cell]:
    auroc = results.get(data, model, "auroc_errors", variant=variant)
    told = f"{variant}: {plain_cell(auroc, 2).text} {plain_cell(auroc, 2).detail}"
    look = measure_looks(results)[variant]
    dots = (Mark(auroc.value, auroc.interval, look, told),) if auroc else ()
    kept = [share_cell(results.get(data, model, "accuracy_kept", "kept", share, variant)) for share in KEPT]
    gain = results.get(data, model, "accuracy_gain", "kept", GAIN, variant)
    gained = Cell(number(100 * gain.value, 1, sign=True), format_interval(gain.interval)) if gain else Cell("–")
    areas = [plain_cell(results.get(data, model, metric, variant=variant), 3) for metric in ("aurc", "excess_aurc")]
    head = Cell(MEASURE_WORDS.get(variant, variant), Markup("<code>{}</code>").format(variant), look=look)
    return [head, plain_cell(auroc, 2), Cell(marks=dots), *kept, gained, *areas]


def rows_table(results: EvaluationResults) -> Table:
    """What was read of each data set."""
    columns = [
        Column("data set", text=True),
        Column("kind", text=True),
        Column("rows"),
        Column("prompts"),
        Column("left out", text=True),
        Column("source", text=True),
    ]
    rows = []
    for data in results.data:
        left_out = "; ".join(f"{n}: {reason}" for reason, n in data.skipped.items() if n) or "none"
        at = [data.source, data.split and f"split {data.split}", data.revision]
        source = Markup(", ").join(breakable(part) for part in at if part)
        rows.append(
            [
                Cell(breakable(data.name)),
                Cell(data.kind),
                Cell(f"{data.rows}"),
                Cell(f"{data.prompts}"),
                Cell(left_out),
                Cell(source),
            ]
        )
    return Table("Data", columns, {"": rows})
