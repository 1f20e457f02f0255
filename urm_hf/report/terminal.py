"""What `urm evaluate` prints: a table for every data set, and what it says in sentences."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from urm_hf.evaluation.entries import RATINGS, DataEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults, to_results
from urm_hf.evaluation.text_table import aligned
from urm_hf.report.findings import accuracy_findings, overview
from urm_hf.report.rating_findings import pearson, rating_findings
from urm_hf.report.tables import has_any
from urm_hf.report.text import MANY, SPACE, Finding, format_interval, number, percent
from urm_hf.report.trust import calibration_findings, row_findings, trust_findings
from urm_hf.report.value_tables import CEILINGS

WIDTH = 110
NAME = 40  # characters of a model's name in a row, 20 over a column
MOST_PARTS = 12  # more subsets than these are left to the report


def print_table(results: EvaluationResults | Mapping[str, Any]):
    print(table_text(results))


def table_text(results: EvaluationResults | Mapping[str, Any]) -> str:
    """
    Args:
        results (`EvaluationResults` or `Mapping`): what was measured, or the content of a `results.json`.
    """
    results = to_results(results)
    blocks = [_wrap(overview(results))] if overview(results) else []
    for data in results.data:
        blocks.append(_heading(data))
        if data.kind == RATINGS:
            found = [*rating_findings(results, data), *row_findings(results, data)]
            blocks += [_rating_rows(results, data), _wrap(found)]
            continue
        found = accuracy_findings(results, data)
        if len(results.names) <= MANY:
            found += [*trust_findings(results, data), *calibration_findings(results, data)]
        found += row_findings(results, data)
        blocks += [_accuracy_rows(results, data), *_parts(results, data), _wrap(found)]
    if len(results.names) > MANY and results.preferences:
        blocks.append("Which rewards to trust, probabilities, and every comparison are in the report.")
    return "\n\n".join(block for block in blocks if block)


def _heading(data: DataEntry) -> str:
    split = f", split {data.split}" if data.split else ""
    line = f"{data.name} ({data.kind}{split}): {data.rows} rows, {data.prompts} prompts"
    return f"{line}\n{'-' * min(len(line), WIDTH)}"


def _accuracy_rows(results: EvaluationResults, data: DataEntry) -> str:
    name = data.name
    baselines = [(rule, results.get(name, rule, "accuracy")) for rule in results.baselines]
    ranked = [*results.rank(name), *((rule, found) for rule, found in baselines if found)]
    titles = {"tied": "tied", "truncated": "cut"}
    models = [model for model, _ in ranked]
    extra = [(metric, title) for metric, title in titles.items() if has_any(results, data, models, metric)]
    rows = [["model", "right", "95 % interval", *(title for _, title in extra)]]
    for model, found in ranked:
        shares = [results.get(name, model, metric) for metric, _ in extra]
        more = [percent(share.value) if share else "" for share in shares]
        rows.append([_shorten(model, NAME), percent(found.value), format_interval(found.interval), *more])
    return _indent(rows)


def _parts(results: EvaluationResults, data: DataEntry) -> list[str]:
    """Tables of sections, subsets, ..., as far as they are short: a row a part, a column a model."""
    name, blocks, left_out = data.name, [], []
    models = [model for model, _ in results.rank(name)]
    models += [baseline for baseline in results.baselines if results.get(name, baseline, "accuracy")]
    for level, groups in results.groups(name, "accuracy").items():
        if len(groups) > MOST_PARTS:
            left_out.append(_count_groups(groups, level))
            continue
        rows = [[level, "n", *(_shorten(model, 20) for model in models)]]
        for group in groups:
            found = [results.get(name, model, "accuracy", level, group) for model in models]
            n = next((f"{value.n}" for value in found if value), "")
            rows.append([_shorten(group, NAME), n, *map(_format_share, found)])
        text = _indent(rows)
        if max(map(len, text.splitlines())) <= WIDTH:
            blocks.append(text)
        else:
            left_out.append(_count_groups(groups, level))
    return blocks + ([f"  {' and '.join(left_out)}: see the report"] if left_out else [])


def _format_share(found: Measured | None) -> str:
    return f"{number(100 * found.value, 1)} {format_interval(found.interval, 0)}".strip() if found else "-"


def _rating_rows(results: EvaluationResults, data: DataEntry) -> str:
    titles = {
        "pearson": "r, mean ratings",
        "single_pearson": "r, single ratings",
        "nll": "NLL",
        "coverage68": "in 68 %",
        "coverage95": "in 95 %",
        "interval_coverage68": "calibrated 68 %",
        "interval_coverage95": "calibrated 95 %",
    }
    name = data.name
    # the constant stands beside the models: an NLL says nothing until it is compared with one that knows nothing
    models = [*results.names, *(rule for rule in results.baselines if results.get(name, rule, "nll"))]
    table: dict[str, dict[str, Measured | None]] = {}
    for model in models:
        table[model] = found = {metric: results.get(name, model, metric) for metric in titles}
        found["pearson"] = pearson(results, name, model)  # of the reward, if it predicts no ratings
    measured = {metric for found in table.values() for metric, value in found.items() if value}
    metrics = [metric for metric in titles if metric in measured]
    if not metrics:
        return ""
    rows = [["model", *(titles[metric] for metric in metrics)]]
    ceilings = {metric: results.whosesoever(name, f"noise_ceiling_{of}") for metric, of in CEILINGS.items()}
    if any(ceilings.values()):
        table["noise ceiling"] = {metric: ceilings.get(metric) for metric in titles}
    for model, found in table.items():
        rows.append([_shorten(model, NAME), *(_format_value(found[metric]) for metric in metrics)])
    return _indent(rows)


def _format_value(found: Measured | None) -> str:
    return f"{number(found.value, 3)} {format_interval(found.interval, 2, 1)}".strip() if found else "-"


def _count_groups(groups: Sequence[Any], level: str) -> str:
    """So many sections, difficulties, ..."""
    several = f"{level[:-1]}ies" if level.endswith("y") else f"{level}s"
    return f"{len(groups)} {level if len(groups) == 1 else several}"


def _indent(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"  {line}".replace(SPACE, " ").rstrip() for line in aligned(rows))


def _shorten(name: str, length: int) -> str:
    """Both ends of a name that is too long: what it is, and its version."""
    if len(name) <= length:
        return name
    beginning = length // 2
    end = length - beginning - 1  # one for the dots
    return f"{name[:beginning]}…{name[len(name) - end :]}"


def _wrap(found: Iterable[Finding]) -> str:
    """Findings as wrapped lines; "!" marks what must not be overlooked."""
    lines = [
        textwrap.fill(
            str(finding),
            WIDTH,
            initial_indent="! " if finding.tone == "warning" else "- ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        for finding in found
    ]
    return "\n".join(lines)
