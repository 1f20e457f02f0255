"""`urm bestofn`: from a file of candidates to curves and the chosen answers, or to the row that is wrong."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny import save_members, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.bestofn.results import LONGEST, ORACLE, RANDOM
from urm_hf.cli import main
from urm_hf.data.tables import read_jsonl

ANSWERS = ["The Po.", "I do not know, and I cannot say.", "Rhine", "It is the Danube, I think.", "No."]


def data_rows(prompts: int = 4, candidates: int = 5) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(prompts):
        answers = [{"response": f"{ANSWERS[k]} ({number})", "win": round(rng.random(), 3)} for k in range(candidates)]
        prompt = [{"role": "user", "content": f"Name river number {number}!"}]
        rows.append({"id": f"ae-{number}", "prompt": prompt, "candidates": answers})
    return rows


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(2)])


@pytest.fixture
def data(tmp_path) -> str:
    return write(tmp_path / "data.jsonl", data_rows())


def run(capsys, *argv: str) -> str:
    code = main(["bestofn", *map(str, argv)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def results_of(folder: Path) -> tuple[dict, dict[str, dict]]:
    results = json.loads((folder / "results.json").read_text())
    return results, {curve["name"]: curve for curve in results["curves"]}


def enumerated(gold, better, n: int) -> float:
    """Mean gold of the winner of all subsets, found by hand; `better` ranks, without ties."""
    return float(np.mean([gold[max(subset, key=lambda k: better[k])] for subset in combinations(range(len(gold)), n)]))


# From end to end


def test_curves_are_those_of_the_scores_found_by_enumeration(capsys, data, members, tmp_path):
    both = ",".join(members)
    printed = run(capsys, members[0], both, "--data", data, "--gold", "win", "--out", tmp_path / "out", "--k", 2)
    results, curves = results_of(tmp_path / "out")
    assert (results["schema"], results["version"], results["n"]) == ("urm-hf best-of-n", 1, [1, 2, 4, 5])
    assert [model["kind"] for model in results["models"]] == ["urm", "ensemble"]
    assert results["kl"] == pytest.approx([np.log(n) - (n - 1) / n for n in (1, 2, 4, 5)])
    rows = data_rows()
    conversations = [
        [*row["prompt"], {"role": "assistant", "content": c["response"]}] for row in rows for c in row["candidates"]
    ]
    single = RewardScorer(members[0]).score(conversations)
    many = RewardScorer(URMEnsemble.from_pretrained(members)).score(conversations)
    lengths = [len(c["response"]) for row in rows for c in row["candidates"]]
    wins = [c["win"] for row in rows for c in row["candidates"]]
    spread = [np.std(score.member_rewards) for score in many]
    expected = {
        "member-0: reward": [score.reward for score in single],
        "member-0: reward - 2 reward_std": [score.reward - 2 * score.reward_std for score in single],
        "member-0+member-1: reward": [score.reward for score in many],
        "member-0+member-1: least member": [min(score.member_rewards) for score in many],
        "member-0+member-1: reward - 2 reward_epistemic": [s.reward - 2 * d for s, d in zip(many, spread)],
        "member-0+member-1: reward - 2 reward_std": [score.reward - 2 * score.reward_std for score in many],
        LONGEST: lengths,
        ORACLE: wins,
    }
    by_hand = {}
    for name, keys in expected.items():
        groups = list(zip(np.reshape(wins, (4, 5)), np.reshape(keys, (4, 5))))
        by_hand[name] = [float(np.mean([enumerated(gold, key, n) for gold, key in groups])) for n in results["n"]]
        assert curves[name]["gold"] == pytest.approx(by_hand[name], abs=1e-9), name
    assert curves[RANDOM]["gold"] == pytest.approx([np.mean(wins)] * 4)
    assert set(curves) == {
        *expected, RANDOM, "member-0: filtered by attribute_variance", "member-0+member-1: filtered by reward_gap"
    }  # fmt: skip
    for pair in results["comparisons"]:
        if {pair["name"], pair["against"]} <= set(by_hand):
            difference = by_hand[pair["name"]][-1] - by_hand[pair["against"]][-1]
            assert pair["difference"] == pytest.approx(difference, abs=1e-9)
            assert pair["interval"][0] <= difference <= pair["interval"][1]
    assert "4 rows with 5 candidates each." in printed and "4 prompts are few" in printed
    assert (tmp_path / "out" / "best_of_n.png").read_bytes().startswith(b"\x89PNG")


def test_chosen_answers_come_with_their_scores(capsys, data, members, tmp_path):
    out = tmp_path / "out"
    printed = run(capsys, ",".join(members), "--data", data, "--out", out, "--select", "min")
    assert "`--gold win` might be it" in printed and f"chosen by min: {out / 'chosen.jsonl'}" in printed
    assert sorted(path.name for path in out.iterdir()) == ["chosen.jsonl", "scores"]
    scorer = RewardScorer(URMEnsemble.from_pretrained(members))
    chosen = list(read_jsonl(out / "chosen.jsonl"))
    for row, best in zip(data_rows(), chosen, strict=True):
        rows = [{"prompt": row["prompt"], "response": c["response"]} for c in row["candidates"]]
        least = [min(score.member_rewards) for score in scorer.score(rows)]
        assert best["candidate"] == int(np.argmax(least))
        assert best["response"] == row["candidates"][best["candidate"]]["response"]
        assert min(best["member_rewards"]) == close(max(least))
        assert (best["id"], best["prompt"], best["rule"]) == (row["id"], row["prompt"], "least member")
        assert (best["tied"], best["fell_back"], best["candidates"]) == (1, False, 5) and "gold" not in best


def test_a_file_of_scores_stands_for_its_model(capsys, data, members, tmp_path):
    assert main(["score", members[0], "--data", data, "--out", str(tmp_path / "scores.jsonl")]) == 0
    run(capsys, members[0], "--data", data, "--gold", "win", "--out", tmp_path / "model")
    run(capsys, tmp_path / "scores.jsonl", "--data", data, "--gold", "win", "--out", tmp_path / "file")
    by_model, by_file = (results_of(tmp_path / name)[1] for name in ("model", "file"))
    assert by_file["scores: reward - 1 reward_std"]["gold"] == by_model["member-0: reward - 1 reward_std"]["gold"]
    other = write(tmp_path / "other.jsonl", [data_rows()[0] | {"prompt": "Another one?"}])
    assert main(["bestofn", str(tmp_path / "scores.jsonl"), "--data", other, "--out", str(tmp_path / "other")]) == 2
    told = capsys.readouterr().err
    assert "has no score for 5 of 5 conversations" in told and "other.jsonl, row 0, candidate 0" in told


def test_the_same_command_again_reads_its_scores_and_gives_the_same(capsys, data, members, tmp_path, monkeypatch):
    argv = (members[0], "--data", data, "--gold", "win", "--out", tmp_path / "out", "--bootstrap-samples", "50")
    first = run(capsys, *argv)
    before = results_of(tmp_path / "out")[0]
    monkeypatch.setattr(RewardScorer, "score_ids", lambda *a, **k: pytest.fail("scored again"))
    assert run(capsys, *argv) == first
    after = results_of(tmp_path / "out")[0]
    assert before | {"created": ""} == after | {"created": ""}


def test_lists_beside_one_another_and_texts_are_candidates_too(capsys, members, tmp_path):
    rows = [{"prompt": "A river?", "responses": ANSWERS, "win": [0, 1, 0, 0.5, 1]} for _ in range(2)]
    rows[1] |= {"prompt": "And another?", "win": [True, False, True, True, False]}
    data = write(tmp_path / "data.jsonl", rows)
    run(capsys, members[0], "--data", data, "--gold", "win", "--out", tmp_path / "out")
    curves = results_of(tmp_path / "out")[1]
    assert curves[RANDOM]["gold"][0] == pytest.approx((0.5 + 0.6) / 2)
    assert curves[LONGEST]["gold"][-1] == pytest.approx((1 + 0) / 2)


def test_empty_and_repeated_candidates_are_told_and_the_empty_come_last(capsys, members, tmp_path):
    rows = data_rows(2)
    rows[0]["candidates"][1]["response"] = " "
    rows[0]["candidates"][3]["response"] = rows[0]["candidates"][0]["response"]
    for candidate in rows[1]["candidates"]:
        candidate["response"] = ""
    data = write(tmp_path / "data.jsonl", rows)
    printed = run(capsys, members[0], "--data", data, "--gold", "win", "--out", tmp_path / "out")
    assert "6 candidates are empty" in printed and "5 candidates repeat another one of their row" in printed
    chosen = list(read_jsonl(tmp_path / "out" / "chosen.jsonl"))
    asked = [{"prompt": rows[0]["prompt"], "response": c["response"]} for c in rows[0]["candidates"]]
    rewards = [score.reward for score in RewardScorer(members[0]).score([asked[k] for k in (0, 2, 3, 4)])]
    assert chosen[0]["reward"] == close(max(rewards))
    assert chosen[0]["candidate"] == (0, 2, 3, 4)[int(np.argmax(rewards))]
    assert (chosen[1]["tied"], chosen[1]["candidate"]) == (5, 0)
    assert "reward" not in chosen[1]
    assert results_of(tmp_path / "out")[0]["data"]["empty"] == 6


def test_nothing_but_empty_candidates_is_an_error(capsys, tmp_path):
    data = write(tmp_path / "data.jsonl", [{"prompt": "Why?", "candidates": ["", " "]}])
    assert main(["bestofn", "no-model", "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "every candidate is empty" in capsys.readouterr().err


def test_n_goes_up_to_what_all_rows_have(capsys, members, tmp_path):
    rows = data_rows(3)
    rows[1]["candidates"] = rows[1]["candidates"][:3]
    data = write(tmp_path / "data.jsonl", rows)
    printed = run(capsys, members[0], "--data", data, "--gold", "win", "--out", tmp_path / "out")
    assert "3 rows with 3 to 5 candidates each. n goes up to 3, which all have." in printed
    results, curves = results_of(tmp_path / "out")
    assert results["n"] == [1, 2, 3]
    wins = [[candidate["win"] for candidate in row["candidates"]] for row in rows]
    assert curves[ORACLE]["gold"][-1] == pytest.approx(np.mean([enumerated(win, win, 3) for win in wins]))


def test_rows_can_be_drawn_and_the_seed_says_which(capsys, data, members, tmp_path):
    kept = []
    for seed in (0, 0, 1, 2, 3):
        out = tmp_path / f"out-{len(kept)}"
        run(capsys, members[0], "--data", data, "--out", out, "--max-prompts", 2, "--seed", seed)
        kept.append([row["id"] for row in read_jsonl(out / "chosen.jsonl")])
    assert kept[0] == kept[1] and len(set(map(tuple, kept))) > 1
    assert all(len(ids) == 2 and ids == sorted(ids) for ids in kept)


def test_models_can_be_given_names(capsys, data, members, tmp_path):
    settings = ("--data", data, "--gold", "win", "--out", tmp_path / "out")
    run(capsys, *members, *settings, "--names", "first", "second")
    results, curves = results_of(tmp_path / "out")
    assert [model["name"] for model in results["models"]] == ["first", "second"]
    assert {"first: reward", "second: reward"} <= set(curves)
    for names in (["one"], ["same", "same"]):
        assert main(["bestofn", *members, *map(str, settings), "--names", *names]) == 2
        assert "--names must be 2 different names" in capsys.readouterr().err


# Bad input


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (
            2,
            lambda row: row["candidates"][3].pop("win"),
            "`win` of candidate 3 is missing (fields of the candidates: win)",
        ),
        (
            2,
            lambda row: row["candidates"][1].update(win="high"),
            "`win` of candidate 1 is 'high', not a finite number",
        ),
        (1, lambda row: row["candidates"][0].update(win=float("nan")), "`win` of candidate 0 is nan, not a finite"),
        (0, lambda row: [c.pop("win") for c in row["candidates"]], "so it is with 5 of 5 candidates"),
        (0, lambda row: row.update(win=0.5), "`win` must hold a number for each of the 5 candidates, got 0.5"),
        (3, lambda row: row.update(win=[1, 2]), "`win` must hold a number for each of the 5 candidates, got 2 values"),
        (3, lambda row: row.update(candidates=row["candidates"][:1]), "two or more answers to choose from, got 1 of"),
        (3, lambda row: row.update(candidates=[]), "two or more answers to choose from, got 0 of them"),
        (
            1,
            lambda row: row.update(candidates="The Po."),
            "no known format. Nearest: candidates (prompt, candidates)",
        ),
        (1, lambda row: row.pop("prompt"), "the columns id, candidates are of no known format"),
        (0, lambda row: row.pop("candidates"), "a column candidates, responses or completions is missing or null"),
        (2, lambda row: row["candidates"].__setitem__(4, 7), "candidate 4 must be text or messages, got int"),
        (
            2,
            lambda row: row["candidates"][2].pop("response"),
            "`candidates`[2] has no response or completion or content",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named(capsys, tmp_path, number, change, message):
    rows = data_rows()
    change(rows[number])
    data = write(tmp_path / "data.jsonl", rows)
    assert main(["bestofn", "no-model", "--data", data, "--gold", "win", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"urm bestofn: error: {data}, row {number}: ") and message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--bootstrap-samples", "0"], "--bootstrap-samples must be positive, got 0"),
        (["--max-prompts", "0"], "--max-prompts must be positive, got 0"),
        (["--revision", "a", "b"], "--revision needs one entry for each of the 1 models"),
        (["--keep", "1.5"], "`keep` is a share and must lie in (0, 1], got 1.5"),
        (["--keep", "0.5", "--filter-threshold", "1"], "Give either `threshold` or `keep`"),
        (["--filter-measure", "sigma"], "`measure` must be one of"),
        (["--k", "-1"], "`k` must be finite and not negative, got -1.0"),
        (["--split", "test"], "holds no rows with split 'test'"),
        (["--candidates-column", "answers"], "row 0: column `answers` is missing or null"),
    ],
)
def test_arguments_out_of_range_are_told_before_a_model_is_loaded(capsys, data, tmp_path, argv, message):
    assert main(["bestofn", "no-model", "--data", data, "--out", str(tmp_path / "out"), *argv]) == 2
    assert message in capsys.readouterr().err


def test_a_rule_that_a_model_cannot_follow_names_the_model(capsys, data, members, tmp_path):
    for argv in (["--select", "min"], ["--filter-measure", "reward_gap"]):
        assert main(["bestofn", members[0], "--data", data, "--out", str(tmp_path / "out"), *argv]) == 2
        told = capsys.readouterr().err
        assert f"{members[0]}: " in told and "compares members" in told


def test_a_candidate_that_is_too_long_is_named(capsys, members, tmp_path):
    rows = data_rows(2)
    rows[1]["candidates"][2]["response"] = "x" * 600
    data = write(tmp_path / "data.jsonl", rows)
    assert main(["bestofn", members[0], "--data", data, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "row 1, candidate 2" in told and "max_length=512" in told
