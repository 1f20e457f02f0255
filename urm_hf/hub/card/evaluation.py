"""The part of a model card that `urm evaluate` measured, as Markdown tables: a data set a row, or a table each."""

from collections.abc import Sequence

from urm_hf.hub.card.results import METRICS, Result
from urm_hf.modeling.card_urm import escape_markdown

MOST_COLUMNS = 5  # of numbers with intervals, beyond which the Hub's page is scrolled
ACCURACY_NOTE = (
    "The share of decisions in which the better answer got the higher reward. “longest answer” always takes the "
    "longer one, “random” guesses: what does not beat them measures something else than quality."
)
PROBABILITY_NOTE = (
    "Probabilities that the chosen answer is better, as given and after a temperature fitted on other prompts. Always "
    "saying one half has Brier 0.250 and NLL 0.693 (natural logarithm); lower is better throughout."
)
TRUST_NOTE = (
    "Pairs are dropped by each measure, the least sure first. AUROC: whether wrong decisions have the higher "
    "uncertainty; 0.5 is chance. Choose a measure on other data than these: the best of several flatters itself."
)
RATING_NOTE = (
    "Correlations are of predicted means with the mean rating of each conversation, or with single ratings, beside "
    "which stands how well annotators are predicted by each other. NLL and CRPS are on the scale of the ratings."
)


def evaluation_sections(results: Sequence[Result], attributes: Sequence[str]) -> list[str]:
    """Titles, tables and notes, in order, of results that name their data set."""
    by_kind: dict[str, list[Result]] = {}
    for result in results:
        by_kind.setdefault(result.kind, []).append(result)
    parts = []
    if "pairs" in by_kind:
        parts += ["### Preferences", accuracy_table(by_kind["pairs"]), ACCURACY_NOTE]
    if "probability" in by_kind:
        table = measured_table(by_kind["probability"], "probabilities")
        parts += ["### Calibration of probabilities", table, PROBABILITY_NOTE]
    if "trust" in by_kind:
        parts += ["### Which rewards to trust", measured_table(by_kind["trust"], "dropped first: high"), TRUST_NOTE]
    rated = by_kind.get("ratings", []) + by_kind.get("spread", [])
    for data in dict.fromkeys(str(result.data) for result in rated):
        table = rating_table([result for result in rated if result.data == data], attributes)
        parts += [f"### Ratings: {escape_markdown(data)}", table, RATING_NOTE]
    return parts


def accuracy_table(results: Sequence[Result]) -> str:
    """A row for each data set and part of it; columns for the model and the baselines, with intervals."""
    judged = list(dict.fromkeys(result.of for result in results))
    by_place = {(result.data, result.group, result.of): result for result in results}
    titles = " | ".join(escape_markdown(of or "this model") for of in judged)
    rows = [f"| data | n | {titles} |", "|---" * (len(judged) + 2) + "|"]
    for data, group in dict.fromkeys((result.data, result.group) for result in results):
        found = [by_place.get((data, group, of)) for of in judged]
        n = next((result.n for result in found if result), "")
        label = escape_markdown(f"{data}: {group}" if group else str(data))
        rows.append(f"| {label} | {n} | " + " | ".join(map(measured_cell, found)) + " |")
    return "\n".join(rows)


def measured_table(results: Sequence[Result], head: str) -> str:
    """A row for each data set and variant; columns are metrics."""
    by_place = {(result.data, result.variant, result.metric): result for result in results}
    rows = list(dict.fromkeys((result.data, result.variant) for result in results))
    tables = []
    for metrics in _split_metrics(results):
        lines = [_heading(f"data | {head}", metrics, 2)]
        for data, variant in rows:
            cells = [measured_cell(by_place.get((data, variant, metric))) for metric in metrics]
            if any(cells):
                labels = f"{escape_markdown(str(data))} | {escape_markdown(str(variant))}"
                lines.append(f"| {labels} | {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def rating_table(results: Sequence[Result], attributes: Sequence[str]) -> str:
    """A row for the average and for each attribute; columns are metrics."""
    by_place = {(result.attribute, result.metric): result for result in results}
    measured = dict.fromkeys([None, *attributes, *(result.attribute for result in results)])
    tables = []
    for metrics in _split_metrics(results):
        lines = [_heading("", metrics, 1)]
        for attribute in measured:
            cells = [measured_cell(by_place.get((attribute, metric))) for metric in metrics]
            if any(cells):
                lines.append(f"| {' | '.join([escape_markdown(attribute or 'average'), *cells])} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _heading(labels: str, metrics: Sequence[str], columns: int) -> str:
    titles = " | ".join(METRICS[metric][1] for metric in metrics)
    return f"| {labels} | {titles} |\n" + "|---" * (columns + len(metrics)) + "|"


def _split_metrics(results: Sequence[Result]) -> list[list[str]]:
    """The metrics in tables that a page has room for: means and spread apart, and a few in each."""
    metrics, tables = _list_metrics(results), []
    for kind in dict.fromkeys(METRICS[metric][0] for metric in metrics):
        found = [metric for metric in metrics if METRICS[metric][0] == kind]
        tables += [found[start : start + MOST_COLUMNS] for start in range(0, len(found), MOST_COLUMNS)]
    return tables


def _list_metrics(results: Sequence[Result]) -> list[str]:
    """The metrics that were measured, in the order in which a card has them."""
    measured = {result.metric for result in results}
    return [metric for metric in METRICS if metric in measured]


def measured_cell(result: Result | None) -> str:
    if result is None:
        return ""
    interval = f" [{result.interval[0]:.3f}, {result.interval[1]:.3f}]" if result.interval else ""
    return f"{result.value:.3f}{interval}"
