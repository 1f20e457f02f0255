"""`report.html`: what `urm evaluate` measured, on one page that needs nothing else, for people who did not run it."""

from calendar import month_name
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from urm_hf.evaluation.entries import RATINGS, DataEntry
from urm_hf.evaluation.results import SCHEMA, VERSION, EvaluationResults, to_results
from urm_hf.report.findings import accuracy_findings, overview
from urm_hf.report.marks import Look
from urm_hf.report.plots import (
    BEFORE_AFTER,
    MOST_LINES,
    choose_measures,
    coverage_plot,
    reliability_plots,
    risk_coverage_plots,
)
from urm_hf.report.rating_findings import rating_findings
from urm_hf.report.tables import (
    comparison_tables,
    every_data_table,
    looks,
    measure_looks,
    overall_table,
    rows_table,
    subset_table,
    trust_table,
)
from urm_hf.report.text import MANY, breakable, format_count, measure_name, name_kind
from urm_hf.report.trust import calibration_findings, row_findings, trust_findings
from urm_hf.report.value_tables import (
    absent_table,
    calibration_table,
    correlation_table,
    likelihood_table,
    models_table,
    rating_table,
)


def write_report(results: EvaluationResults | Mapping[str, Any], path: Path) -> Path:
    """
    Writes one self-contained HTML file: no script, no request, readable on a phone and in print.

    Args:
        results (`EvaluationResults` or `Mapping`): what was measured, or the content of a `results.json`.

    Raises:
        ValueError: it is not the content of a `results.json` that `urm evaluate` wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(results), encoding="utf-8")
    return path


def report_html(results: EvaluationResults | Mapping[str, Any]) -> str:
    """The page. Everything that results name is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("urm_hf.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css, _, _ = loader.get_source(environment, "page.css")
    results = to_results(results)
    return environment.get_template("page.html.jinja").render(
        css=Markup(css),
        results=results,
        schema=SCHEMA,
        version=VERSION,
        created=_format_date(results.created),
        breakable=breakable,
        format_count=format_count,
        name_kind=name_kind,
        many=MANY,
        looks=looks(results),
        **_build_sections(results),
    )


def _build_sections(results: EvaluationResults) -> dict[str, Any]:
    """The contents of each section, data set by data set; what has no content is left out."""
    numbered = list(enumerate(results.data))
    preferences = [(i, data) for i, data in numbered if data.kind != RATINGS and results.rank(data.name)]
    ratings = [(i, data) for i, data in numbered if data.kind == RATINGS]
    return {
        "overview": overview(results),
        "answers": [(d, accuracy_findings(results, d), overall_table(results, d)) for _, d in preferences]
        + [(d, found, None) for _, d in ratings if (found := rating_findings(results, d))],
        "every_data": every_data_table(results) if len(preferences) > 1 else None,
        "parts": [(d, table) for _, d in preferences if (table := subset_table(results, d))],
        "comparisons": [(d, comparison_tables(results, d)) for _, d in preferences if results.comparisons_on(d.name)],
        "trust": [_trust(results, d, i) for i, d in preferences if trust_table(results, d)],
        "measures": _build_legend(results, [data.name for _, data in preferences]),
        "most_lines": MOST_LINES,
        "calibration": [_calibration(results, d, i) for i, d in preferences if calibration_table(results, d)],
        "before_after": zip(("as given", "after temperature"), BEFORE_AFTER, strict=True),
        "ratings": [_ratings(results, d, i) for i, d in ratings if correlation_table(results, d)],
        "rows": rows_table(results),
        "row_findings": [finding for d in results.data for finding in row_findings(results, d)],
        "models": models_table(results),
        "absent": absent_table(results),
    }


def _build_legend(results: EvaluationResults, data: list[str]) -> list[tuple[Markup, Look]]:
    """The legend of the risk-coverage curves: every measure that is drawn anywhere."""
    drawn = {variant for name in data for model in results.names for variant in choose_measures(results, name, model)}
    return [(measure_name(variant), look) for variant, look in measure_looks(results).items() if variant in drawn]


def _trust(results: EvaluationResults, data: DataEntry, number: int) -> dict[str, Any]:
    plots = risk_coverage_plots(results, data.name, number)
    found, table = trust_findings(results, data), trust_table(results, data)
    return {"data": data, "findings": found, "plots": plots, "table": table}


def _calibration(results: EvaluationResults, data: DataEntry, number: int) -> dict[str, Any]:
    plots = [(model, kind, plot) for model, kind, plot in reliability_plots(results, data.name, number)]
    found = calibration_findings(results, data)
    return {"data": data, "findings": found, "plots": plots, "table": calibration_table(results, data)}


def _ratings(results: EvaluationResults, data: DataEntry, number: int) -> dict[str, Any]:
    made = (table_of(results, data) for table_of in (correlation_table, rating_table, likelihood_table))
    tables = [table for table in made if table]
    plot = coverage_plot(results, data.name, number)
    return {"data": data, "plot": plot, "tables": tables}


def _format_date(created: str | None) -> str:
    """ "22 November 2026" of an ISO time; what is not one stays as it is."""
    try:
        at = datetime.fromisoformat((created or "").replace("Z", "+00:00"))
    except ValueError:
        return created or ""
    return f"{at.day} {month_name[at.month]} {at.year}"
