"""`urm evaluate` from files to results.json, with numbers that are computed here once more."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.evaluations import pairs, ratings, run, value, write
from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.checkpoints.files import read_json, write_json
from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
from urm_hf.cli import main
from urm_hf.data.conversations import read_conversation
from urm_hf.data.seen import TRAINED_ON, mark_conversation, summarize_seen
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.hub.card.evaluate_results import build_results


@pytest.fixture
def model(tmp_path) -> str:
    return save_with_tokenizer(tiny_urm(attributes=["helpfulness", "clarity"]), tmp_path / "one")


def test_a_model_a_file_of_scores_and_baselines_on_pairs(model, tmp_path, capsys):
    rows = pairs()
    data = write(tmp_path / "pairs.jsonl", rows)
    other = save_with_tokenizer(tiny_urm(seed=3, attributes=["helpfulness", "clarity"]), tmp_path / "two")
    assert main(["score", other, "--data", data, "--out", str(tmp_path / "two.jsonl")]) == 0
    results = run(tmp_path, model, str(tmp_path / "two.jsonl"), "--data", data)

    names = {entry["name"]: entry["kind"] for entry in results["models"]}
    assert names == {"one": "urm", "two": "scores", "longest answer": "baseline", "random": "baseline"}
    assert results["data"][0] | {"source": ""} == {
        "name": "pairs",
        "source": "",
        "revision": None,
        "split": None,
        "kind": "pairs",
        "rows": 24,
        "prompts": 12,
        "skipped": {},
        "subsets": {"even": 12, "odd": 12},
        "remarks": [],
    }
    right = {}
    for name, folder in (("one", model), ("two", other)):
        scorer = RewardScorer(folder)
        margins, variances = [], []
        for row in rows:
            chosen, rejected = scorer.score(
                [{"prompt": row["prompt"], "response": row[side]} for side in ("chosen", "rejected")]
            )
            margins.append(chosen.reward - rejected.reward)
            variances.append(chosen.reward_std**2 + rejected.reward_std**2)
        margins, right[name] = np.array(margins), np.array(margins) > 0
        assert value(results, name, "accuracy") == right[name].mean()
        odd = np.array([row["subset"] == "odd" for row in rows])
        assert value(results, name, "accuracy", level="subset", group="odd") == right[name][odd].mean()
        nll = np.log1p(np.exp(-margins)).mean()
        assert value(results, name, "nll", variant="logistic") == pytest.approx(nll, abs=1e-4)
        phi = [0.5 * (1 + math.erf(m / math.sqrt(2 * v))) for m, v in zip(margins, variances, strict=True)]
        brier = np.mean(np.square(1 - np.array(phi)))
        assert value(results, name, "brier", variant="gaussian") == pytest.approx(brier, abs=1e-4)
        assert value(results, name, "truncated") == 0
    longer = np.array([len(row["chosen"]) > len(row["rejected"]) for row in rows])
    assert value(results, "longest answer", "accuracy") == longer.mean()
    assert value(results, "random", "accuracy") == 0.5
    compared = {(entry["model_a"], entry["model_b"]): entry for entry in results["comparisons"]}
    assert compared["one", "two"]["difference"] == pytest.approx(right["one"].mean() - right["two"].mean())
    assert compared["one", "longest answer"]["only_a"] == (right["one"] & ~longer).sum()

    page = (tmp_path / "out" / "report.html").read_text()
    assert "longest answer" in page and "<svg" in page
    assert "Wrote" in capsys.readouterr().out


def test_an_ensemble_on_pairs_and_ratings(tmp_path, capsys):
    members = save_members(tmp_path, [tiny_urm(seed=k, attributes=["helpfulness", "clarity"]) for k in range(3)])
    files = [write(tmp_path / "pairs.jsonl", pairs()), write(tmp_path / "ratings.jsonl", ratings())]
    results = run(tmp_path, ",".join(members), members[0], "--data", *files)
    ensemble, single = (entry for entry in results["models"] if entry["kind"] != "baseline")
    assert (ensemble["name"], ensemble["kind"]) == ("member-0+member-1+member-2", "ensemble")
    assert "reward_gap" in ensemble["uncertainties"] and "reward_gap" not in single["uncertainties"]
    kept = [e["variant"] for e in results["metrics"] if e["metric"] == "aurc" and e["model"] == ensemble["name"]]
    assert {"reward_gap", "margin gap", "margin near 0"} <= set(kept)

    rows = ratings()
    scores = RewardScorer(URMEnsemble.from_pretrained(members)).score(rows)
    stds = np.array([score.attribute_stds["clarity"] for score in scores])
    errors = np.array([row["ratings"]["clarity"] for row in rows]) - np.array(
        [[score.attribute_means["clarity"]] for score in scores]
    )
    nll = (0.5 * (errors / stds[:, None]) ** 2 + np.log(stds[:, None]) + 0.5 * np.log(2 * np.pi)).mean()
    found = value(results, ensemble["name"], "nll", level="attribute", group="clarity")
    assert found == pytest.approx(nll, rel=1e-4)
    assert {entry["data"] for entry in results["comparisons"]} == {"pairs", "ratings"}
    assert "constant" in {entry["name"] for entry in results["models"]}


def test_the_same_command_again_scores_nothing(model, tmp_path, monkeypatch):
    data = write(tmp_path / "pairs.jsonl", pairs(8))
    first = run(tmp_path, model, "--data", data)
    with monkeypatch.context() as patched:
        patched.setattr(RewardScorer, "score_ids", lambda *args, **kwargs: pytest.fail("scored again"))
        again = run(tmp_path, model, "--data", data)
    assert again["metrics"] == first["metrics"] and again["curves"] == first["curves"]


def test_some_prompts_only(model, tmp_path):
    data = write(tmp_path / "pairs.jsonl", pairs())
    results = run(tmp_path, model, "--data", data, "--max-prompts", "5")
    described = results["data"][0]
    assert (described["prompts"], described["rows"]) == (5, 10)
    assert described["skipped"] == {"not among the 5 prompts drawn": 14}


def test_unusable_rows_are_counted_or_named(model, tmp_path, capsys):
    rows = pairs(8)
    rows[3]["rejected"] = rows[3]["chosen"]
    data = write(tmp_path / "pairs.jsonl", rows)
    assert main(["evaluate", model, "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "pairs, row 3" in capsys.readouterr().err
    results = run(tmp_path, model, "--data", data, "--on-error", "skip")
    assert results["data"][0]["rows"] == 7 and sum(results["data"][0]["skipped"].values()) == 1


@pytest.mark.parametrize(
    "change, told",
    [
        (["--names", "a", "b"], "--names must be 1 different names"),
        (["--revision", "a", "b"], "--revision needs one entry for each of the 1 models"),
        (["--split", "a", "b"], "--split needs one value, or one for each of the 1 data sets"),
        (["--bootstrap-samples", "0"], "--bootstrap-samples must be positive"),
        (["--kind", "ratings"], "no column `ratings`"),
        (["--kind", "rewardbench"], "no subset of RewardBench"),
        (["--chosen-column", "best"], "no column `best`"),
        (["--attribute-map", "clarity"], "--attribute-map takes MODEL=DATA"),
        (["--names", "a/b"], "'a/b' cannot be the name of a file"),
        (["--names", "random"], "'random' is a baseline"),
        (["--data-names", "a", "b"], "--data-names must be 1 different names, one for each data set"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--data-names", ".."], "'..' cannot be the name of a file"),
    ],
)
def test_bad_options_are_told_in_one_line(model, tmp_path, capsys, change, told):
    data = write(tmp_path / "pairs.jsonl", pairs(4))
    assert main(["evaluate", model, "--data", data, "--out", str(tmp_path / "out"), *change]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1]


def test_files_that_are_not_there_or_of_other_data(model, tmp_path, capsys):
    data, others = write(tmp_path / "pairs.jsonl", pairs(6)), write(tmp_path / "others.jsonl", pairs(4)[:2])
    out = ["--out", str(tmp_path / "out")]
    assert main(["evaluate", str(tmp_path / "no.jsonl"), "--data", data, *out]) == 2
    assert "no.jsonl: no such file" in capsys.readouterr().err
    assert main(["evaluate", model, "--data", str(tmp_path / "no.jsonl"), *out]) == 2
    assert "no.jsonl: no such file" in capsys.readouterr().err
    assert main(["score", model, "--data", others, "--out", str(tmp_path / "scores.jsonl")]) == 0
    assert main(["evaluate", str(tmp_path / "scores.jsonl"), "--data", data, *out]) == 2
    assert "has no score for 8 of 12 conversations, the first of them pairs, row 2, chosen" in capsys.readouterr().err


def test_attributes_that_do_not_agree(tmp_path, capsys):
    model = save_with_tokenizer(tiny_urm(attributes=["quality", "style"]), tmp_path / "model")
    data = write(tmp_path / "ratings.jsonl", ratings())
    assert main(["evaluate", model, "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "quality, style; ratings has helpfulness, clarity" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/**/*.jsonl"))  # told before anything is scored
    results = run(tmp_path, model, "--data", data, "--attribute-map", "quality=helpfulness")
    value(results, "model", "nll", level="attribute", group="helpfulness")


def test_data_may_rate_fewer_attributes_than_a_model_predicts(tmp_path):
    model = save_with_tokenizer(tiny_urm(attributes=["style", "clarity", "helpfulness"]), tmp_path / "model")
    results = run(tmp_path, model, "--data", write(tmp_path / "ratings.jsonl", ratings()))
    for attribute in ("helpfulness", "clarity"):
        value(results, "model", "nll", level="attribute", group=attribute)


def test_a_tokenizer_without_a_template(tmp_path, capsys):
    folder = save_with_tokenizer(tiny_urm(), tmp_path / "model")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    data = write(tmp_path / "pairs.jsonl", pairs(4))
    assert main(["evaluate", folder, "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "pairs, row 0, chosen" in capsys.readouterr().err


def test_conversations_that_a_model_was_trained_on_are_told(model, tmp_path, capsys):
    rows = pairs()
    sides = [read_conversation(row, side) for row in rows for side in ("chosen", "rejected")]
    record, path = {"gating_stage": summarize_seen(map(mark_conversation, sides[:10]))}, Path(model) / "config.json"
    write_json(path, read_json(path) | {"training": record})
    other = save_with_tokenizer(tiny_urm(seed=3, attributes=["helpfulness", "clarity"]), tmp_path / "two")
    results = run(tmp_path, model, other, "--data", write(tmp_path / "pairs.jsonl", rows))
    different = len({conversation.key for conversation in sides})
    (told,) = results["data"][0]["notes"].pop("one")
    assert told.startswith(
        f"{TRAINED_ON} ({len({side.key for side in sides[:10]})} of {different} for the gating stage)"
    )
    assert results["data"][0]["notes"] == {}
    printed = " ".join(capsys.readouterr().out.split())
    assert f"one on pairs: {TRAINED_ON} (" in printed and f"two on pairs: {TRAINED_ON}" not in printed
    assert TRAINED_ON in (tmp_path / "out" / "report.html").read_text()
    read = EvaluationResults.read(tmp_path / "out" / "results.json")
    assert {result.data for result in build_results(read, [model], tmp_path)} == {"pairs (trained on)"}


def test_members_of_an_ensemble_tell_what_they_were_trained_on(tmp_path):
    members = save_members(tmp_path, [tiny_urm(seed=n, attributes=["helpfulness", "clarity"]) for n in range(2)])
    rows = ratings()
    record = {"attribute_stage": summarize_seen(mark_conversation(read_conversation(row)) for row in rows)}
    path = Path(members[1]) / "config.json"
    write_json(path, read_json(path) | {"training": record})
    results = run(tmp_path, ",".join(members), "--names", "both", "--data", write(tmp_path / "ratings.jsonl", rows))
    (told,) = results["data"][0]["notes"]["both"]
    assert f"({len(rows)} of {len(rows)} for the attribute stage)" in told


def test_a_gate_that_was_not_trained_is_told_beside_accuracies_alone(model, tmp_path):
    path = Path(model) / "config.json"
    write_json(path, read_json(path) | {"training": {"attribute_stage": {}}})
    rated = write(tmp_path / "ratings.jsonl", ratings())
    data = run(tmp_path, model, "--data", write(tmp_path / "pairs.jsonl", pairs()), rated)["data"]
    assert data[0]["notes"] == {"one": [UNTRAINED_GATE]} and not data[1].get("notes")
