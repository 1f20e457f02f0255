"""`urm ood`: the report of `ood_report`, from two files that `urm score` wrote."""

import shutil

import numpy as np
import pytest

from tests.helpers.commands import score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.uncertainty.ood import ood_report


def scored(n: int, seed: int, shift: float) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [
        {
            "prompt": f"Question {number // 2} of {seed}?",
            "response": "Yes. " * int(generator.integers(1, 9)),
            "reward": float(generator.normal()),
            "reward_std": float(generator.uniform() + shift),
            "attribute_means": {"help": 1.0},
            "n_tokens": int(generator.integers(5, 40)),
        }
        for number in range(n)
    ]


def run(*argv) -> int:
    return main(["ood", *map(str, argv)])


@pytest.fixture
def files(tmp_path) -> list[str]:
    return [write(tmp_path / f"{name}.jsonl", scored(30, seed, seed * 0.4)) for seed, name in enumerate("ab")]


def test_the_command_prints_the_report_of_whole_prompts_with_texts(files, capsys):
    assert run(*files, "--measures", "reward_std", "--bootstrap-samples", 200, "--seed", 3) == 0
    known, unknown = scored(30, 0, 0.0), scored(30, 1, 0.4)
    texts = tuple([row["response"] for row in rows] for rows in (known, unknown))
    groups = tuple([row["prompt"] for row in rows] for rows in (known, unknown))
    settings = {"measures": ["reward_std"], "n_resamples": 200, "seed": 3}
    assert capsys.readouterr().out == f"{ood_report(known, unknown, texts=texts, groups=groups, **settings)}\n"


def test_scores_of_two_models_are_refused_and_those_of_one_are_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    models = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / f"model-{seed}") for seed in range(2)]
    shutil.copytree(models[0], tmp_path / "moved")
    rows = [{"prompt": f"{number}?", "response": "Yes. " * (number % 4 + 1)} for number in range(8)]
    data = [write(tmp_path / f"rows-{part}.jsonl", rows[4 * part : 4 * part + 4]) for part in range(2)]
    known, same, moved, other = (str(tmp_path / f"{name}.jsonl") for name in ("known", "same", "moved", "other"))
    scored = [(models[0], 0, known), (models[0], 1, same), (tmp_path / "moved", 1, moved), (models[1], 1, other)]
    for model, part, out in scored:
        assert score(model, "--data", data[part], "--out", out) == 0
    few = ("--bootstrap-samples", 20)
    for unknown in (same, moved):  # the same weights, in a folder of another name
        assert run(known, unknown, *few) == 0
    assert "note:" not in capsys.readouterr().err
    assert run(known, other, *few) == 2
    told = capsys.readouterr().err
    assert f"two models scored the files: {known} by {models[0]}@" in told and f"{other} by {models[1]}@" in told
    # a file that was changed since is of nobody knows which model
    with open(other, "a", encoding="utf-8") as file:
        file.write("\n")
    assert run(known, other, *few) == 0
    assert f"note: which model scored {other} is not known" in capsys.readouterr().err


def test_files_that_differ_in_what_they_hold_are_of_two_models(files, tmp_path, capsys):
    others = [row | {"attribute_means": {"depth": 1.0}} for row in scored(30, 1, 0.4)]
    assert run(files[0], write(tmp_path / "others.jsonl", others)) == 2
    told = capsys.readouterr().err
    assert "a.jsonl has help; reward_std" in told and "others.jsonl has depth; reward_std" in told


def test_the_same_scores_twice_are_refused(files, tmp_path, capsys):
    copy = write(tmp_path / "copy.jsonl", scored(30, 0, 0.0))
    for second in (files[0], copy):
        assert run(files[0], second) == 2
        assert f"{files[0]} and {second} hold the same scores" in capsys.readouterr().err


def test_a_picture_is_drawn_and_not_written_over(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "new" / "ood.png"
    assert run(*files, "--measures", "reward_std", "--bootstrap-samples", 50, "--plot", picture) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(*files, "--plot", picture) == 2
    assert "ood.png exists" in capsys.readouterr().err


def test_what_is_wrong_is_told_in_a_line(files, tmp_path, capsys):
    raw = write(tmp_path / "raw.jsonl", [{"prompt": "a", "response": "b"}])
    empty = write(tmp_path / "empty.jsonl", [])
    one = write(tmp_path / "one.jsonl", scored(2, 1, 0.0))
    for argv, told in [
        ((empty, files[0]), "empty.jsonl holds no rows."),
        ((files[0], empty), "empty.jsonl holds no rows."),
        ((files[0], one), "one.jsonl has 2 rows of one prompt: at least two prompts show how they vary."),
        ((*files, "--measures", "length"), "--measures must be among"),
        ((*files, "--plot", "ood.txt"), "--plot ood.txt must end in"),
        ((files[0], raw), "raw.jsonl, row 0, has no `reward`. Score the file first"),
        ((*files, "--measures", "reward_gap"), "reward_gap"),
    ]:
        assert run(*argv) == 2
        error = capsys.readouterr().err
        assert told in error and len(error.splitlines()) == 1
