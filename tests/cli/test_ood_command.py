"""`urm ood`: the report of `ood_report`, from two files that `urm score` wrote."""

import numpy as np
import pytest

from tests.helpers.commands import write
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
