"""
Table 1 and the ablation of Fig. 4: accuracy of every model in the benchmark's sections, and on held-out pairs.

    python examples/paper/table1.py --scale laptop --data DATA --out paper

Needs what `train.py` trained. Writes OUT/table1/results.json and report.html (`urm evaluate`), and OUT/figure4.png.
"""

import json

from common import Run, figure, messages_of, models_of, parse, save, score, timed, write_text

from urm_hf.cli import main as urm


def main():
    run = parse(__doc__)
    with timed(run, "table 1 and figure 4"):
        benchmark, held_out = write_pairs(run)
        conversations = [c for path in (benchmark, held_out) for c in read_conversations(path)]
        scored = {name: score(run, name, folders, conversations, "pairs") for name, folders in models_of(run).items()}
        argv = ["evaluate", *map(str, scored.values()), "--names", *scored, "--data", str(benchmark), str(held_out)]
        argv += ["--kind", "rewardbench", "pairs", "--out", str(run.out / "table1")]
        if urm(argv):
            raise SystemExit(1)
        print(draw(run))


def write_pairs(run: Run):
    """Files of the pairs that are judged: the benchmark's, and held-out ones of the gate's data."""
    most, parts = run.settings["max_test_rows"], []
    for place in run.settings["tests"].values():
        parts += list(run.rows(place, most))
    held_out = list(run.rows(run.settings["held_out_pairs"], most))
    paths = []
    for name, rows in (("benchmark", parts), ("held_out", held_out)):
        kept = ("prompt", "chosen", "rejected", "subset")
        lines = [json.dumps({key: row[key] for key in kept if row.get(key) is not None}) for row in rows]
        paths.append(write_text(run.out / "data" / f"{name}.jsonl", "\n".join(lines) + "\n"))
    return paths


def read_conversations(path) -> list:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [messages_of(row, side) for row in rows for side in ("chosen", "rejected")]


def draw(run: Run):
    """Fig. 4: the overall score of each model, with its interval."""
    results = json.loads((run.out / "table1" / "results.json").read_text())
    drawn, axes = figure(2, width=4.8)
    for axis, data in zip(axes, ("benchmark", "held_out"), strict=True):
        names = ["base (Bradley-Terry)", "Ablation", "URM_Reg", "URM_MLE", "URME", "longest answer"]
        found = {m["model"]: m for m in results["metrics"] if is_overall(m, data)}
        for place, name in enumerate(names):
            low, high = found[name]["interval"]
            axis.bar(place, found[name]["value"], color=f"C{place}", alpha=0.75)
            axis.plot([place, place], [low, high], color="0", lw=1.2)
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
        axis.axhline(0.5, color="0.5", ls=":")
        axis.set_title(f"{data.replace('_', ' ')}, n={found[names[0]]['n']}", fontsize=10)
        axis.set_ylabel("accuracy, 95 % interval")
    return save(drawn, run.out / "figure4.png")


def is_overall(metric: dict, data: str) -> bool:
    return metric["metric"] == "accuracy" and metric["data"] == data and metric["level"] is None


if __name__ == "__main__":
    main()
