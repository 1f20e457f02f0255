"""
Table 2: the best of n answers by a URM and by an ensemble, as a judge sees them.

    python examples/paper/table2.py --scale laptop --data DATA --out paper

At `--scale paper` a policy writes 64 answers to each prompt and an LLM judges what is chosen (`urm bestofn --policy`).
At `--scale laptop` the answers are those of AlpacaEval's leaderboard, 32 systems to a prompt, whose wins a judge has
counted already: not draws of one policy, so n is a scale of how much there is to choose from.
"""

import json

from common import Run, messages_of, models_of, parse, score, timed, write_text

from urm_hf.cli import main as urm


def main():
    run = parse(__doc__)
    with timed(run, "table 2"):
        settings, out = run.settings["bestofn"], str(run.out / "table2")
        if "policy" in settings:
            argv = [run.model("mle-0-gated"), ",".join(run.urme()), "--out", out]
            for name, value in settings.items():
                argv += [f"--{name.replace('_', '-')}", str(value)]
        else:
            argv = [*score_candidates(run), "--gold", settings["gold"], "--out", out]
        if urm(["bestofn", *argv]):
            raise SystemExit(1)


def score_candidates(run: Run) -> list[str]:
    """A file of scores by each model, and the file of candidates, as arguments."""
    settings = run.settings["bestofn"]
    rows = list(run.rows([settings["data"], "test"], settings["max_prompts"]))
    data = write_text(run.out / "data" / "candidates.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")
    conversations = []
    for row in rows:
        said = [candidate["response"] for candidate in row["candidates"] if candidate["response"].strip()]
        conversations += [messages_of({**row, "answer": text}, "answer") for text in said]
    shown = {name: folders for name, folders in models_of(run).items() if name in ("URM_MLE", "URME")}
    files = [score(run, name, folders, conversations, "candidates") for name, folders in shown.items()]
    return [*map(str, files), "--names", *shown, "--data", str(data)]


if __name__ == "__main__":
    main()
