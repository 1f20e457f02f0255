"""The tables of the report on probabilities and ratings, and what was evaluated."""

from markupsafe import Markup

from urm_hf.evaluation.entries import BASELINE, DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.marks import Cell, Column, Look, Mark, Table, build_axis
from urm_hf.report.rating_findings import pearson
from urm_hf.report.tables import SHORT_READING, extent, looks, p_cell, plain_cell, share_cell
from urm_hf.report.text import breakable, certainty, format_interval, name_kind, number
from urm_hf.report.trust import COIN

# metric: head, hint, digits; shares are shown in percent
RATING_COLUMNS = {
    "spearman": ("ρ", "Spearman, ↑", 2),
    "single_pearson": ("single r", "one rating, ↑", 2),
    "nll": ("NLL", "per rating, ↓", 3),
    "crps": ("CRPS", "↓", 3),
    "coverage50": ("in 50", "holds, %", 0),
    "coverage68": ("in 68", "holds, %", 0),
    "coverage95": ("in 95", "holds, %", 0),
    "interval_coverage68": ("cal. 68", "holds, %", 0),
    "interval_coverage95": ("cal. 95", "holds, %", 0),
    "sharpness": ("sharpness", "mean σ", 2),
    "spread_pearson": ("spread r", "σ and raters, ↑", 2),
}
CEILINGS = {"single_pearson": "pearson", "nll": "nll"}  # what the noise ceiling of a metric is called
PROBABILITY_COLUMNS = {
    "brier": ("Brier", "↓", 3),
    "nll": ("NLL", "↓", 3),
    "ece": ("ECE, %", "↓", 1),
    "ece_of_perfect": ("of perfect", "ECE, %", 1),
}
AVERAGE = "average"


def calibration_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """Brier, NLL and ECE of every model's probabilities, before and after temperature."""
    name = data.name
    groups: dict[str | Markup, list[list[Cell]]] = {}
    for model in results.names:
        variants = results.variants(name, model, "brier")
        if variants:
            groups[breakable(model)] = [_build_probability_row(results, name, model, variant) for variant in variants]
    if not groups:
        return None
    head = [Column("probabilities", text=True), Column("temperature", ">1: too sure")]
    columns = [*head, *(Column(title, hint) for title, hint, _ in PROBABILITY_COLUMNS.values())]
    note = f"Always saying one half: Brier 0.250, NLL {number(COIN, 3)}. NLL in natural logarithms."
    return Table(f"Probabilities on {name}", columns, groups, note)


def _build_probability_row(results: EvaluationResults, data: str, model: str, variant: str) -> list[Cell]:
    temperature = results.get(data, model, "temperature", variant=variant.removesuffix(", tempered"))
    tempered = variant.endswith(", tempered")
    cells = []
    for metric, (_, _, digits) in PROBABILITY_COLUMNS.items():
        found = results.get(data, model, metric, variant=variant)
        cells.append(share_cell(found, digits) if metric.startswith("ece") else plain_cell(found, digits))
    return [Cell(name_kind(variant)), plain_cell(temperature, 2) if tempered else Cell("1", "as given"), *cells]


def rating_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """The other metrics of ratings, averaged and by attribute: rows of each model, of baselines and of the ceiling."""
    name = data.name
    metrics = [metric for metric in RATING_COLUMNS if any(results.get(name, m, metric) for m in results.names)]
    if not metrics:
        return None
    attributes = [None, *results.groups(name, metrics[0]).get("attribute", [])]
    groups: dict[str | Markup, list[list[Cell]]] = {}
    for model in [*results.names, *results.baselines]:
        found = {}
        for a in attributes:
            found[a] = [results.get(name, model, metric, a and "attribute", a) for metric in metrics]
        groups[breakable(model)] = _build_rating_rows(metrics, found)
    ceilings = [f"noise_ceiling_{CEILINGS[metric]}" if metric in CEILINGS else "" for metric in metrics]
    found = {}
    for a in attributes:
        found[a] = [results.whosesoever(name, ceiling, a and "attribute", a) for ceiling in ceilings]
    groups["noise ceiling: annotators, each predicted by the others"] = _build_rating_rows(metrics, found)
    columns = [Column("attribute", text=True), *(Column(*RATING_COLUMNS[metric][:2]) for metric in metrics)]
    note = "In 50, 68, 95: the share of ratings inside the predicted intervals that promise so many percent."
    return Table(f"Ratings of {name}", columns, {head: rows for head, rows in groups.items() if rows}, note)


def _build_rating_rows(metrics: list[str], found: dict[str | None, list[Measured | None]]) -> list[list[Cell]]:
    """A row for the average (None) and each attribute that has any value."""
    rows = []
    for attribute, values in found.items():
        if any(values):
            cells = []
            for metric, value in zip(metrics, values, strict=True):
                build_cell = share_cell if metric.startswith("coverage") else plain_cell
                cells.append(build_cell(value, RATING_COLUMNS[metric][2]))
            rows.append([Cell(AVERAGE if attribute is None else breakable(attribute)), *cells])
    return rows


def correlation_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """Pearson's r of every model as dots, by attribute."""
    name, look = data.name, looks(results)
    models = {model: r for model in results.names if (r := pearson(results, name, model))}
    if not models:
        return None
    attributes = results.groups(name, "pearson").get("attribute", [])
    found = {(m, a): pearson(results, name, m, a) for m in models for a in (None, *attributes)}
    axis = build_axis(extent(found.values()), 0.0, factor=1, limits=(-1.0, 1.0))
    columns = [Column("attribute", text=True), Column("Pearson r", axis=axis)]
    columns += [Column(breakable(m), "its reward" if r.variant else "", look=look[m]) for m, r in models.items()]
    rows = []
    for attribute in (None, *attributes):
        dots = [_mark_correlation(m, r, look[m]) for m in models if (r := found[m, attribute])]
        cells = [plain_cell(found[model, attribute], 2) for model in models]
        rows.append([Cell(AVERAGE if attribute is None else breakable(attribute)), Cell(marks=dots), *cells])
    return Table(f"Predicted against mean ratings of {name}", columns, {"": rows})


def _mark_correlation(model: str, found: Measured, look: Look) -> Mark:
    cell = plain_cell(found, 2)
    return Mark(found.value, found.interval, look, f"{model}: {cell.text} {cell.detail}".strip())


def likelihood_table(results: EvaluationResults, data: DataEntry) -> Table | None:
    """Every two models by NLL, where they were compared."""
    found, look = results.comparisons_on(data.name), looks(results)
    if not found:
        return None
    columns = [
        Column("a", text=True),
        Column("against b", text=True),
        Column("a − b", "below 0: a is better"),
        Column("reading", text=True),
        Column("p", "adjusted"),
    ]
    rows = []
    for c in found:
        a, b = (Cell(breakable(model), look=look.get(model)) for model in (c.model_a, c.model_b))
        size = Cell(number(c.difference, 3, sign=True), format_interval(c.interval, 3, 1))
        rows.append([a, b, size, Cell(SHORT_READING[certainty(c)]), Cell(p_cell(c))])
    tests = ", ".join(sorted({c.test for c in found}))
    return Table(f"NLL of ratings, compared on {data.name}", columns, {"": rows}, f"Test: {tests}.")


def absent_table(results: EvaluationResults) -> Table | None:
    """What could not be measured, and why."""
    columns = [Column(title, text=True) for title in ("metric", "model", "data set", "why there is none")]
    rows = [
        [Cell(entry.metric), Cell(breakable(entry.model)), Cell(breakable(entry.data)), Cell(entry.reason)]
        for entry in results.absences
    ]
    return Table("Not measured", columns, {"": rows}) if rows else None


def models_table(results: EvaluationResults) -> Table:
    """What was evaluated: kind, source and revision of every model."""
    columns = [Column(title, text=True) for title in ("model", "kind", "source", "says of its own uncertainty")]
    rows = []
    for model in results.models:
        if model.kind == BASELINE:
            continue
        at = [model.source, model.revision]
        source = Markup(" @ ").join(breakable(part) for part in at if part)
        told = Markup(", ").join(Markup("<code>{}</code>").format(name) for name in model.uncertainties or [])
        kind = model.kind
        look = looks(results)[model.name]
        rows.append([Cell(breakable(model.name), look=look), Cell(kind), Cell(source), Cell(told or "nothing")])
    return Table("Models", columns, {"": rows})
