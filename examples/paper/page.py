"""
docs/paper.md from what the scripts of this folder wrote: each figure beside what the paper says of it.

    python examples/paper/page.py --out paper --docs docs

A claim is *shown here* where the 95 % interval of a difference lies on the side the paper claims, *contradicted* where
it lies on the other, and else *not shown*.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

UNKNOWN = [-1.0, 1.0]  # of a difference of shares: where all pairs agree, resampling them tells nothing
INTRO = (Path(__file__).parent / "page.md").read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("paper"), help="what the scripts wrote to")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    images = args.docs / "img" / "paper"
    images.mkdir(parents=True, exist_ok=True)
    for path in [*args.out.glob("*.png"), *args.out.glob("*/*.png")]:
        shutil.copyfile(path, images / path.name)
    parts = {
        "claims": format_claims(collect_claims(args.out)),
        "table1": format_table1(read(args.out / "table1")),
        "figure5": format_figure5(read(args.out / "figure5")),
        "figure6c": format_figure6c(read(args.out / "figure6c")),
        "table2": format_table2(read(args.out / "table2")),
        "figure7": format_figure7(read(args.out / "figure7")),
        "grpo": format_rules(read(args.out / "grpo")),
        "dpo": format_rules(read(args.out / "dpo")),
        "overoptimisation": format_overoptimisation(read(args.out / "overoptimisation")),
        "time": format_times(args.out),
    }
    text = INTRO
    for path in sorted(Path(__file__).parent.glob("reading_*.md")):  # what people make of the numbers
        parts[path.stem.removeprefix("reading_")] = path.read_text().strip()
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    (args.docs / "paper.md").write_text(text)
    print(f"Wrote {args.docs / 'paper.md'}")


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def decide(interval: list[float] | None, sign: int) -> str:
    """Of a difference that the paper claims to have this sign."""
    interval = interval or UNKNOWN
    low, high = sorted(sign * bound for bound in interval)
    if low > 0:
        return "shown here"
    return "contradicted" if high < 0 else "not shown"


def collect_claims(out: Path) -> list[tuple[str, str, str]]:
    """(what the paper says, what was found here, verdict)."""
    table1, figure5, figure6c = read(out / "table1"), read(out / "figure5"), read(out / "figure6c")
    claims = []
    for better, worse in (
        ("URM_Reg", "base (Bradley-Terry)"),
        ("URM_Reg", "Ablation"),
        ("URM_Reg", "URM_MLE"),
        ("URME", "URM_MLE"),
    ):
        for data in ("benchmark", "held_out"):
            difference, interval, n = find_comparison(table1, data, better, worse)
            told = f"{100 * difference:+.1f} points {percent(interval)}, {data.replace('_', ' ')}, n={n}"
            claims.append((f"{better} is above {worse} (Table 1, Fig. 4)", told, decide(interval, 1)))
    for name, found in figure5.items():
        for kind in ("products, short", "products, as long"):
            auroc = found[f"auroc, {kind}"]
            low, high = auroc["interval"]
            told = f"AUROC {auroc['value']:.2f} [{low:.2f}, {high:.2f}] against {kind}, n={found['n']} each"
            source = "not in the paper" if "posterior" in name else "Fig. 5, 6a, 6b"
            verdict = decide([low - 0.5, high - 0.5], 1)
            claims.append((f"{name} is larger on arithmetic ({source})", told, verdict))
    for name, found in figure6c.items():
        data, model, measure, share = name.split(", ")
        if data == "held_out" and share == "0.5" and measure in ("attribute_variance", "reward_gap"):
            told = (
                f"{100 * found['value']:+.1f} points {percent(found['interval'])} at half kept, of {found['n']} pairs"
            )
            claims.append(
                (f"Filtering by {model}'s {measure} raises accuracy (Fig. 6c)", told, decide(found["interval"], 1))
            )
    return claims + claims_of_use(out)


def claims_of_use(out: Path) -> list[tuple[str, str, str]]:
    """Table 2, Fig. 7, and what the paper leaves to future work."""
    table2, figure7, claims = read(out / "table2"), read(out / "figure7"), []
    for model in ("URM_MLE", "URME"):
        found = find_pair(table2, f"{model}: reward", "random")
        told = f"{found['difference']:+.3f} {bounds(found['interval'])} at n={found['n']}, against a random choice"
        claims.append(
            (f"Best-of-n by {model} is better than one answer (Table 2)", told, decide(found["interval"], 1))
        )
    found = find_pair(table2, "URME: reward", "URM_MLE: reward")
    told = f"{found['difference']:+.3f} {bounds(found['interval'])} at n={found['n']}"
    claims.append(("Best-of-n by URME is better than by URM (Table 2)", told, decide(found["interval"], 1)))
    for loss, sign in (("regression", 1), ("deterministic", 1), ("mle", -1)):
        found = figure7[loss]
        told = f"{100 * found['gain']:+.1f} points {percent(found['interval'])}, n={figure7['n']}"
        verb = "raises" if sign > 0 else "lowers"
        claims.append(
            (f"Merging {verb} accuracy under the {loss} loss (Fig. 7)", told, decide(found["interval"], sign))
        )
    for name, what in (("grpo", "GRPO"), ("dpo", "iterative DPO")):
        results = read(out / name)
        rules = {rule: found for rule, found in results["rules"].items() if "mean" not in rule and "all" not in rule}
        gains = [rule for rule, found in rules.items() if found["interval"][0] > 0]
        hurts = [rule for rule, found in rules.items() if found["interval"][1] < 0]
        told = f"{len(gains)} of {len(rules)} careful rules end above the plain reward, {len(hurts)} below"
        verdict = "shown here" if gains and not hurts else "contradicted" if hurts and not gains else "not shown"
        claims.append((f"Uncertainty makes {what} more reliable (future work)", told, verdict))
    return claims


def find_comparison(results: dict, data: str, a: str, b: str) -> tuple[float, list[float], int]:
    for entry in results["comparisons"]:
        if entry["data"] == data and {entry["model_a"], entry["model_b"]} == {a, b}:
            sign = 1 if entry["model_a"] == a else -1
            interval = sorted(sign * bound for bound in entry["interval"] or UNKNOWN)
            return sign * entry["difference"], interval, entry["n"]
    raise ValueError(f"{data}: {a} and {b} were not compared.")


def find_pair(results: dict, name: str, against: str) -> dict:
    return next(p for p in results["comparisons"] if (p["name"], p["against"]) == (name, against))


def percent(interval: list[float] | None) -> str:
    interval = interval or UNKNOWN
    return f"[{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def bounds(interval: list[float] | None) -> str:
    interval = interval or UNKNOWN
    return f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


def format_rows(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def format_claims(claims: list[tuple[str, str, str]]) -> str:
    return format_rows(["the paper", "here", "verdict"], [[a, b, f"**{c}**"] for a, b, c in claims])


def format_table1(results: dict) -> str:
    models = [entry["name"] for entry in results["models"]]
    groups: dict[tuple[str, str], dict[str, dict]] = {}
    for metric in results["metrics"]:
        if metric["metric"] == "accuracy" and metric["level"] in (None, "section"):
            groups.setdefault((metric["data"], metric["group"] or "overall"), {})[metric["model"]] = metric
    rows = []
    for (data, group), found in groups.items():
        n = next(iter(found.values()))["n"]
        rows.append([f"{data.replace('_', ' ')}, {group}", str(n), *[percent_cell(found.get(m)) for m in models]])
    return format_rows(["", "n", *models], rows)


def percent_cell(metric: dict | None) -> str:
    if metric is None:
        return ""
    interval = metric["interval"]
    told = "" if interval is None else f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"
    return f"{100 * metric['value']:.1f}{told}"


def format_figure5(results: dict) -> str:
    rows = []
    for name, found in results.items():
        cells = [f"{found[f'median, {kind}']:.3g}" for kind in ("known", "products, short", "products, as long")]
        for kind in ("products, short", "products, as long"):
            auroc = found[f"auroc, {kind}"]
            cells.append("{:.2f} [{:.2f}, {:.2f}]".format(auroc["value"], *auroc["interval"]))
        rows.append([name, str(found["n"]), *cells])
    head = ["measure", "n", "median: known", "short products", "as long", "AUROC, short products", "AUROC, as long"]
    return format_rows(head, rows)


def format_figure6c(results: dict) -> str:
    rows = []
    for name, found in results.items():
        data, model, measure, share = name.split(", ")
        gain = f"{100 * found['value']:+.1f} {percent(found['interval'])}"
        rows.append([data.replace("_", " "), model, measure, f"{100 * float(share):.0f} %", str(found["n"]), gain])
    return format_rows(["pairs", "model", "measure", "kept", "pairs", "points gained on all pairs"], rows)


def format_table2(results: dict) -> str:
    sizes = results["n"]
    rows = []
    for curve in results["curves"]:
        cells = [f"{value:.3f}" for value in curve["gold"]]
        if curve["low"]:
            cells[-1] += f" [{curve['low'][-1]:.3f}, {curve['high'][-1]:.3f}]"
        rows.append([curve["name"], *cells])
    return format_rows(["chosen by", *[f"n={n}" for n in sizes]], rows)


def format_figure7(results: dict) -> str:
    rows = []
    for loss in ("regression", "deterministic", "mle"):
        found = results[loss]
        cells = [f"{100 * found[name]:.1f}" for name in ("0", "1", "merged")]
        rows.append([loss, *cells, f"{100 * found['gain']:+.1f} {percent(found['interval'])}"])
    return format_rows(["loss", "seed 0", "seed 1", "merged", "merged less the seeds' mean"], rows)


def format_rules(results: dict) -> str:
    rows = []
    for rule, found in results["rules"].items():
        low, high = found["interval"]
        cells = [f"{found[name]:.2f}" for name in ("best", "end", "proxy")]
        rows.append([rule, *cells, f"{found['gain']:+.2f} [{low:+.2f}, {high:+.2f}]"])
    return format_rows(["", "gold at its best", "gold at the end", "proxy at the end", "against the plain URM"], rows)


def format_overoptimisation(results: dict) -> str:
    sizes, rows = results["n"], []
    last = len(sizes) - 1
    shown = [k for k in range(0, len(sizes), 2) if k != last] + [last]
    for kind in ("plain", "wild"):
        for rule, found in results[kind].items():
            cells = [f"{found['mean'][k]:.2f}" for k in shown]
            gain = [found[name][last] for name in ("gain", "gain_low", "gain_high")]
            gains = [str(n) for k, n in enumerate(sizes) if found["gain_low"][k] > 0] if rule != "gold" else []
            hurts = [str(n) for k, n in enumerate(sizes) if found["gain_high"][k] < 0]
            told = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*gain)
            rows.append([f"{kind}: {rule}", *cells, told, ", ".join(gains) or "–", ", ".join(hurts) or "–"])
    return format_rows(
        ["chosen by", *[f"n={sizes[k]}" for k in shown], "against ensemble", "gains at", "hurts at"], rows
    )


def format_times(out: Path) -> str:
    seconds = json.loads((out / "seconds.json").read_text())
    for name in ("grpo", "dpo", "overoptimisation"):
        seconds[name] = read(out / name)["seconds"]
    rows = [[name, f"{value / 60:.1f}"] for name, value in seconds.items()]
    return format_rows(["step", "minutes"], [*rows, ["all", f"{sum(seconds.values()) / 60:.0f}"]])


if __name__ == "__main__":
    main()
