"""`urm filter`: rows and pairs that the model is sure of, from the files that `urm score` writes."""

import gzip
import json

import numpy as np
import pytest

from tests.helpers.commands import score, write
from urm_hf.cli import main
from urm_hf.data.formats.reading import kind_of, read_row
from urm_hf.data.tables import read_jsonl
from urm_hf.uncertainty.filtering import fit_threshold


def scored_row(number: int, uncertainty: float, **columns) -> dict:
    scores = {"reward": float(number), "reward_std": uncertainty, "attribute_means": {"help": 1.0}}
    return {"prompt": f"Question {number}?", "response": "Yes.", **columns, **scores}


def scored_pair(number: int, right: bool, stds: tuple[float, float]) -> list[dict]:
    rows = []
    for place, (side, std) in enumerate(zip(("chosen", "rejected"), stds)):
        reward = 1.0 if (place == 0) == right else 0.0
        row = scored_row(number, std, answer_column=side, answer_index=0, response=f"{side} {number}")
        rows.append(row | {"reward": reward})
    return rows


def run(*argv) -> int:
    return main(["filter", *map(str, argv)])


def test_a_share_of_the_rows_is_kept_in_their_order(tmp_path, capsys):
    rows = [scored_row(number, std) for number, std in enumerate([0.4, 0.1, 0.3, 0.2])]
    file, out, dropped = write(tmp_path / "scored.jsonl", rows), tmp_path / "kept.jsonl", tmp_path / "rest.jsonl.gz"
    assert run(file, "--keep", 0.5, "--out", out, "--dropped", dropped) == 0
    assert list(read_jsonl(out)) == [rows[1], rows[3]]
    assert [json.loads(line) for line in gzip.decompress(dropped.read_bytes()).splitlines()] == [rows[0], rows[2]]
    told = capsys.readouterr().err
    assert "2 of 4 rows kept; 2 dropped, whose reward_std is above 0.2." in told


@pytest.mark.parametrize(("above", "kept"), [("either", [0]), ("both", [0, 1])])
def test_pairs_are_kept_whole_and_written_as_pairs(tmp_path, capsys, above, kept):
    pairs = [scored_pair(0, True, (0.1, 0.2)), scored_pair(1, False, (0.1, 0.9)), scored_pair(2, False, (0.8, 0.9))]
    file, out = write(tmp_path / "scored.jsonl", sum(pairs, [])), tmp_path / "kept.jsonl"
    assert run(file, "--threshold", 0.5, "--measure", "reward_std", "--out", out, "--above", above) == 0
    expected = [{"prompt": f"Question {n}?", "chosen": f"chosen {n}", "rejected": f"rejected {n}"} for n in kept]
    assert list(read_jsonl(out)) == expected
    assert {kind_of(read_row(row)) for row in expected} == {"pair"}
    share = "100.0%" if above == "either" else "50.0%"
    assert f"prefers the chosen answer in {share} of the kept and 0.0% of the rest" in capsys.readouterr().err


def wide_pair(number: int, margin: float, std: float) -> list[dict]:
    chosen, rejected = scored_pair(number, True, (std, 0.0))
    return [chosen | {"reward": margin, "epistemic_variance": 1 / std}, rejected | {"epistemic_variance": 0.0}]


@pytest.mark.parametrize("named", [[], ["--measure", "probability_near_half"]])
def test_pairs_are_kept_where_the_model_is_sure_which_is_better(tmp_path, capsys, named):
    """The margins are 0.5, 3 and 2 standard deviations; the widest margin is not the surest, nor the most familiar."""
    pairs = [wide_pair(0, 2.0, 4.0), wide_pair(1, 0.3, 0.1), wide_pair(2, 1.0, 0.5)]
    file, out = write(tmp_path / "scored.jsonl", sum(pairs, [])), tmp_path / "kept.jsonl"
    assert run(file, "--keep", 2 / 3, "--out", out, *named) == 0
    assert [row["prompt"] for row in read_jsonl(out)] == ["Question 1?", "Question 2?"]
    # 1/2 - |Phi(2) - 1/2|
    assert "1 dropped, whose probability_near_half is above 0.02275." in capsys.readouterr().err


def test_the_measure_of_pairs_is_refused_where_there_are_none(tmp_path, capsys):
    file = write(tmp_path / "scored.jsonl", [scored_row(0, 0.1)])
    assert run(file, "--keep", 1, "--measure", "probability_near_half", "--out", tmp_path / "kept.jsonl") == 2
    assert "scored.jsonl holds no pairs (`chosen`, `rejected`), and --measure probability" in capsys.readouterr().err
    file = write(tmp_path / "pairs.jsonl", scored_pair(0, True, (0.1, 0.2)))
    assert run(file, "--keep", 1, "--above", "both", "--out", tmp_path / "kept.jsonl") == 2
    assert "--above both joins the uncertainties of two answers" in capsys.readouterr().err


def test_a_promised_error_is_that_of_the_fitted_threshold(tmp_path, capsys):
    generator = np.random.default_rng(0)
    stds = generator.uniform(size=400)
    right = generator.uniform(size=400) > np.where(stds < 0.5, 0.01, 0.5)
    labelled = [scored_pair(n, bool(is_right), (std, 0.0)) for n, (is_right, std) in enumerate(zip(right, stds))]
    labels = write(tmp_path / "labels.jsonl", sum(labelled, []))
    new = generator.uniform(size=100)
    file = write(tmp_path / "scored.jsonl", sum((scored_pair(n, True, (0.0, std)) for n, std in enumerate(new)), []))
    out = tmp_path / "kept.jsonl"
    by_std = ("--measure", "reward_std")
    assert run(file, "--target-error", 0.1, "--labels", labels, "--out", out, *by_std) == 0
    # each pair has a prompt of its own, so that all are used
    fitted = fit_threshold(stds, right, target_error=0.1)
    assert fitted.threshold is not None
    assert [row["prompt"] for row in read_jsonl(out)] == [
        f"Question {n}?" for n in range(100) if new[n] <= fitted.threshold
    ]
    assert run(file, "--target-error", 0.0001, "--labels", labels, "--out", tmp_path / "none.jsonl", *by_std) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("urm filter: error: No threshold was found that keeps the promise: ")
    reason = told[-1].split("promise: ")[1]
    assert not any(reason in line for line in told[:-1])  # once, not in the table's heading as well
    assert not (tmp_path / "none.jsonl").exists()


def test_labels_of_another_model_promise_nothing(tmp_path, capsys):
    file = write(tmp_path / "scored.jsonl", scored_pair(0, True, (0.1, 0.2)))
    labels = [row | {"attribute_means": {"depth": 1.0}} for row in scored_pair(0, True, (0.1, 0.2))]
    of_another = write(tmp_path / "labels.jsonl", labels)
    assert run(file, "--target-error", 0.1, "--labels", of_another, "--out", tmp_path / "kept.jsonl") == 2
    assert "two models scored the files" in capsys.readouterr().err


def test_what_urm_score_writes_of_pairs_is_filtered_and_comes_back(saved_urm, tmp_path, capsys):
    rows = [{"id": n, "prompt": f"Why {n}?", "chosen": "So. " * n, "rejected": "No é \u2028."} for n in range(1, 7)]
    data, scored = write(tmp_path / "pairs.jsonl", rows), tmp_path / "scored.jsonl"
    assert score(saved_urm, "--data", data, "--out", scored) == 0
    capsys.readouterr()
    assert run(scored, "--keep", 1, "--out", "-") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]] == rows


def test_what_is_wrong_is_told_before_anything_is_read(tmp_path, capsys):
    absent, out = tmp_path / "absent.jsonl", tmp_path / "kept.jsonl"
    for argv, told in [
        (("--keep", 0.5, "--measure", "rewardstd"), "--measure must be one of"),
        (("--keep", 1.5), "--keep must lie in (0, 1], got 1.5."),
        (("--target-error", 0.1), "--target-error and --labels go together"),
        (("--keep", 0.5, "--dropped", out), "--out and --dropped are both"),
        (("--keep", 0.5, "--dropped", "rest.txt"), "rest.txt must end in .jsonl or .jsonl.gz."),
    ]:
        assert run(absent, "--out", out, *argv) == 2
        assert told in capsys.readouterr().err
    out.write_text("precious")
    assert run(absent, "--keep", 0.5, "--out", out) == 2
    assert "kept.jsonl exists" in capsys.readouterr().err and out.read_text() == "precious"


def test_a_file_that_was_not_scored_or_lost_rows_is_told_with_its_row(tmp_path, capsys):
    out = tmp_path / "kept.jsonl"
    assert run(tmp_path / "scored.csv", "--keep", 0.5, "--out", out) == 2
    assert "scored.csv must be .jsonl or .jsonl.gz" in capsys.readouterr().err
    file = write(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b"}])
    assert run(file, "--keep", 0.5, "--out", out) == 2
    assert "rows.jsonl, row 0, has no `reward`. Score the file first" in capsys.readouterr().err
    rows = [*scored_pair(0, True, (0.1, 0.2)), *scored_pair(1, True, (0.1, 0.2))]
    file = write(tmp_path / "lost.jsonl", [rows[0], rows[1], rows[3]])
    assert run(file, "--keep", 0.5, "--out", out) == 2
    assert "lost.jsonl, rows 2 and 3, are not the `chosen` and `rejected`" in capsys.readouterr().err
    file = write(tmp_path / "single.jsonl", [scored_row(0, 0.1)])
    assert run(file, "--target-error", 0.1, "--labels", file, "--out", out) == 2
    assert "single.jsonl holds no pairs" in capsys.readouterr().err


def test_where_nothing_is_dropped_no_threshold_is_told(tmp_path, capsys):
    file = write(tmp_path / "scored.jsonl", [scored_row(number, 0.1) for number in range(3)])
    assert run(file, "--keep", 1, "--out", tmp_path / "kept.jsonl") == 0
    assert capsys.readouterr().err == f"{file}: all 3 rows kept.\n"
