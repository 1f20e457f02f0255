"""The results of best-of-n as a table for the terminal, and in sentences."""

from collections.abc import Sequence
from typing import Any

from urm_hf.bestofn.data import Candidates, find_numeric_fields, read_text
from urm_hf.bestofn.results import LONGEST, ORACLE, RANDOM
from urm_hf.evaluation.text_table import aligned

BASELINES = (RANDOM, LONGEST, ORACLE)
FEW = 30  # prompts; below, percentile intervals are too narrow


def describe_counts(rows: Sequence[Candidates], gold: str | None) -> str:
    """What was read, and what about it a reader should know."""
    counts = [len(row.answers) for row in rows]
    spread = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    told = [f"{len(rows)} rows with {spread} candidates each."]
    if gold and len(set(counts)) > 1:
        told.append(f"n goes up to {min(counts)}, which all have.")
    empty = sum(int(row.empty.sum()) for row in rows)
    if empty:
        told.append(f"{empty} candidates are empty: models do not score them, and take them only if all are.")
    copies = sum(map(_count_copies, rows))
    if copies:
        told.append(f"{copies} candidates repeat another one of their row: they tie.")
    repeated = len(rows) - len({row.key for row in rows})
    if repeated:
        told.append(f"{repeated} rows have the prompt of another row: intervals resample these together.")
    if gold is None and (names := find_numeric_fields(rows)):
        told.append(f"No curves without gold; `--gold {names[0]}` might be it.")
    return " ".join(told)


def _count_copies(row: Candidates) -> int:
    return len(row.answers) - len(set(map(read_text, row.answers)))


def format_table(results: dict[str, Any]) -> str:
    """A line for each way of choosing; at the largest n with intervals and the difference to the longest answer."""
    sizes, curves = results["n"], results["curves"]
    difference = {pair["name"]: pair for pair in results["comparisons"] if pair["against"] == LONGEST}
    head = ["chosen by", *(f"n={n}" for n in sizes[:-1]), f"n={sizes[-1]}, 95 %", f"against {LONGEST}"]
    lines = [head, ["KL at most, nats", *(f"{value:.2f}" for value in results["kl"]), ""]]
    model = None
    for curve in curves:
        if curve["model"] != model:
            model = curve["model"]
            lines.append([model, *[""] * (len(head) - 1)])
        indent = "  " if curve["model"] else ""
        last = format_number(curve["gold"][-1])
        if curve["low"]:
            last += _format_interval((curve["low"][-1], curve["high"][-1]))
        against = _format_difference(difference[curve["name"]]) if curve["name"] in difference else ""
        lines.append([indent + curve["label"], *map(format_number, curve["gold"][:-1]), last, against])
    return "\n".join(aligned(lines))


def write_sentences(results: dict[str, Any]) -> list[str]:
    """What a reader must not miss: who beats the longest answer, who is best, how often a filter left nothing."""
    # a model's other rules are in the table; sentences on all of them would bury those on its reward
    labels = {curve["name"]: curve["label"] for curve in results["curves"]}
    of_rewards = [pair for pair in results["comparisons"] if labels[pair["name"]] == "reward"]
    told = [_judge_pair(pair) for pair in of_rewards if pair["against"] == LONGEST]
    best = _find_best_reward(results)
    for pair in of_rewards:
        name, against = pair["name"], pair["against"]
        if against not in BASELINES and best in (name, against):
            told.append(f"{name} {_compare(pair)} {against} at n={pair['n']}: {_format_difference(pair)}.")
    for curve in results["curves"]:
        if curve["fallback"] and curve["fallback"][0] > 0:
            n = results["n"]
            threshold = curve["rule"]["threshold"]
            told.append(
                f"{curve['name']} (at most {threshold:.4g}): none left, so that all are eligible again, in "
                f"{curve['fallback'][0]:.1%} of cases at n={n[0]}, {curve['fallback'][-1]:.1%} at n={n[-1]}."
            )
    if results["data"]["prompts"] < FEW:
        told.append(f"{results['data']['prompts']} prompts are few: the intervals are rougher than they look.")
    return told


def _find_best_reward(results: dict[str, Any]) -> str | None:
    """The model whose reward chooses best at the largest n; others are compared with it."""
    own = [curve for curve in results["curves"] if curve["label"] == "reward"]
    return max(own, key=lambda curve: curve["gold"][-1])["name"] if own else None


def format_number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _judge_pair(pair: dict[str, Any]) -> str:
    name, at = pair["name"], f"the {LONGEST} at n={pair['n']}"
    if pair["interval"] is None:
        return f"Whether {name} beats {at} cannot be told without an interval ({_format_difference(pair)})."
    low, high = pair["interval"]
    if low > 0:
        return f"{name} beats {at} ({_format_difference(pair)})."
    remark = ""
    if high < 0:
        remark = ": it is worse"
    elif pair["difference"] > 0:
        remark = ": the difference may be chance"
    return f"{name} does NOT beat {at}{remark} ({_format_difference(pair)})."


def _compare(pair: dict[str, Any]) -> str:
    low, high = pair["interval"] or (0, 0)
    if low > 0:
        return "is better than"
    return "is worse than" if high < 0 else "cannot be told apart from"


def _format_difference(pair: dict[str, Any]) -> str:
    bounds = "" if pair["interval"] is None else " [{}, {}]".format(*map(_format_signed, pair["interval"]))
    return _format_signed(pair["difference"]) + bounds


def _format_signed(value: float) -> str:
    size = format_number(abs(value))
    return ("-" if value < 0 and float(size) else "+") + size


def _format_interval(bounds: Sequence[float]) -> str:
    return f" [{format_number(bounds[0])}, {format_number(bounds[1])}]"
