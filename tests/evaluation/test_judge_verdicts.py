"""A judge's verdicts as a row of `urm evaluate`: sections, ties, and what verdicts cannot do."""

import json

import pytest

from tests.helpers.evaluations import run, value, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main

# Two sections of RewardBench; of the judge's verdicts on the chosen answers
VERDICTS = {
    "hep-python": ["win", "win", "tie", "loss"],
    "hep-js": ["win", "tie", "tie", None],
    "llmbar-natural": ["loss", "win", "win", "win"],
}


def rows() -> list[dict]:
    models = {"chosen_model": "a", "rejected_model": "b"}
    return [
        {"prompt": f"{subset} {n}?", "chosen": f"yes {n}", "rejected": f"no {n}", "subset": subset, **models}
        for subset, verdicts in VERDICTS.items()
        for n in range(len(verdicts))
    ]


def judged(pairs: list[dict]) -> list[dict]:
    """What `urm judge` writes beside the rows."""
    written = []
    for row, verdict in zip(pairs, [v for verdicts in VERDICTS.values() for v in verdicts], strict=True):
        first, second = {"win": "aa", "loss": "bb", "tie": "ab", None: (None, "a")}[verdict]
        orders = {"a_first": first, "b_first": second}
        told = {f"preferred_{order}": preferred for order, preferred in orders.items()}
        told |= {f"problem_{order}": None for order in orders} | {f"replies_{order}": ["..."] for order in orders}
        consistent = None if verdict is None else verdict != "tie"
        written.append(row | {"verdict": verdict, "consistent": consistent} | told)
    return written


def test_a_judge_stands_beside_a_model_in_the_sections_of_the_benchmark(tmp_path, capsys):
    data, verdicts = write(tmp_path / "bench.jsonl", rows()), write(tmp_path / "gpt.jsonl", judged(rows()))
    model = save_with_tokenizer(tiny_urm(), tmp_path / "one")
    results = run(tmp_path, model, verdicts, "--data", data)
    kinds = {entry["name"]: entry["kind"] for entry in results["models"]}
    assert kinds["gpt"] == "judge" and kinds["one"] == "urm"
    # ties are wrong: 2/4 and 1/4 of code, each subset with the weight 164; 3/4 of LLMBar
    code, hard = (2 / 4 + 1 / 4) / 2, 3 / 4
    assert value(results, "gpt", "accuracy") == pytest.approx((code + hard) / 2)
    assert value(results, "gpt", "tied") == pytest.approx(4 / 12)
    # and half: 2.5/4, and (1 + 3 / 2) / 4, one of which the judge told nothing of
    code = (2.5 / 4 + 2.5 / 4) / 2
    assert value(results, "gpt", "accuracy_ties_half") == pytest.approx((code + hard) / 2)
    named = {"level": "section", "group": "Reasoning (2 of 7 subsets)"}
    assert value(results, "gpt", "accuracy_ties_half", **named) == pytest.approx(code)
    assert value(results, "gpt", "not_judged") == pytest.approx(1 / 12)
    absent = {(entry["model"], entry["metric"]) for entry in results["absent"]}
    assert {("gpt", name) for name in ("brier", "nll", "ece", "aurc")} <= absent
    assert not [m for m in results["metrics"] if m["model"] == "gpt" and m["metric"] in ("brier", "aurc", "truncated")]
    assert any({c["model_a"], c["model_b"]} == {"one", "gpt"} for c in results["comparisons"])
    assert "gpt" in capsys.readouterr().out


def test_a_pair_that_was_judged_the_other_way_round_keeps_its_verdict(tmp_path, capsys):
    swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows()]
    data, verdicts = write(tmp_path / "bench.jsonl", rows()), write(tmp_path / "gpt.jsonl", judged(swapped))
    results = run(tmp_path, verdicts, "--data", data)
    # what the judge prefers of the swapped rows is the rejected answer of these: 1/4, 0/4 and 1/4
    assert value(results, "gpt", "accuracy") == pytest.approx(((1 / 4 + 0) / 2 + 1 / 4) / 2)


def error_of(capsys, tmp_path, *argv) -> str:
    assert main(["evaluate", *argv, "--out", str(tmp_path / "other")]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_what_verdicts_cannot_judge_is_told_at_once(tmp_path, capsys):
    verdicts = write(tmp_path / "gpt.jsonl", judged(rows()))
    more = write(tmp_path / "more.jsonl", rows() + [rows()[0] | {"prompt": "another?"}])
    told = error_of(capsys, tmp_path, verdicts, "--data", more)
    assert "no verdict on 1 of 13 pairs, the first of them more, row 12" in told
    ratings = [{"prompt": f"{n}?", "response": "a", "ratings": {"helpfulness": [n % 5]}} for n in range(6)]
    told = error_of(capsys, tmp_path, verdicts, "--data", write(tmp_path / "rated.jsonl", ratings))
    assert "verdicts on pairs, and rated holds ratings" in told
    several = [{"prompt": f"{n}?", "chosen": [f"{n}"], "rejected": ["a", "b", "c"]} for n in range(3)]
    several = [row | {"num_correct": 1, "subset": "Math", "id": n} for n, row in enumerate(several)]
    told = error_of(capsys, tmp_path, verdicts, "--data", write(tmp_path / "rb2.jsonl", several))
    assert "has 4 answers" in told


def test_a_file_of_verdicts_that_is_damaged_names_its_row(tmp_path, capsys):
    data = write(tmp_path / "bench.jsonl", rows())
    wrong = judged(rows())
    wrong[2]["verdict"] = "maybe"
    told = error_of(capsys, tmp_path, write(tmp_path / "gpt.jsonl", wrong), "--data", data)
    assert "row 2: `verdict` is 'maybe'; expected win, tie, loss or null" in told
    twice = judged(rows())
    twice.append(twice[0] | {"verdict": "loss"})
    told = error_of(capsys, tmp_path, write(tmp_path / "gpt.jsonl", twice), "--data", data)
    assert "row 12: this pair has the verdict 'loss', but 'win' further up" in told
    assert json.loads((tmp_path / "bench.jsonl").read_text().splitlines()[0])["chosen"] == "yes 0"
