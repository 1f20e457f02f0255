"""Rows that `urm posterior` and `urm calibrate` cannot use: an error, or left out and written beside the output."""

import json

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, rated_rows
from urm_hf import URMForRewardModeling
from urm_hf.cli import main
from urm_hf.cli.skipped_rows import describe_skipped
from urm_hf.data.tables import read_jsonl

GOOD = rated_rows(40)
BAD = {
    "not a number": {"text": "a", "help": "good", "depth": 1},
    "no conversation": {"text": " ", "help": 1, "depth": 1},
    "a mask": {"text": "b", "help": -1, "depth": 1},
    "no rating": {"text": "c", "help": None, "depth": None},
    "too long": {"text": "d" * 600, "help": 1, "depth": 1},
    "weighed by text": {"text": "e", "help": 1, "depth": 1, "weight": "much"},
}


@pytest.fixture
def plain(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    return save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "plain")


def posterior(model, data, out, *options) -> int:
    return main(["posterior", str(model), "--data", str(data), "--out", str(out), *options])


def write_mixed(path) -> list[int]:
    """A file of good rows, one of each bad one and a damaged line; the numbers of what cannot be used."""
    rows = [*GOOD[:20], *BAD.values(), *GOOD[20:]]
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join([*lines[:3], '{"damaged', *lines[3:]]))
    return [3, *range(21, 21 + len(BAD))]


def test_they_are_left_out_and_told(plain, tmp_path, capsys):
    data, clean = tmp_path / "mixed.jsonl", write(tmp_path / "clean.jsonl", GOOD)
    bad = write_mixed(data)
    out = tmp_path / "out"
    assert posterior(plain, data, out, "--on-error", "skip") == 0
    told = capsys.readouterr().err
    assert f"{len(bad)} of {40 + len(bad)} rows SKIPPED (see {out}.skipped.jsonl): 1 because " in told
    skipped = list(read_jsonl(tmp_path / "out.skipped.jsonl"))
    assert [line["row"] for line in skipped] == bad
    assert "data" not in skipped[0] and [line["data"]["text"] for line in skipped[1:]] == [
        row["text"] for row in BAD.values()
    ]
    assert "'good', which is not a number" in skipped[1]["reason"] and "line 4" in skipped[0]["reason"]
    assert not [path.name for path in out.iterdir() if "skipped" in path.name or "unreadable" in path.name]
    assert posterior(plain, clean, tmp_path / "of-clean") == 0
    ours, theirs = (URMForRewardModeling.from_pretrained(folder) for folder in (out, tmp_path / "of-clean"))
    assert ours.score.posterior_variances.equal(theirs.score.posterior_variances)
    assert ours.config.training["posterior"] == theirs.config.training["posterior"]
    # the same of calibrating, whose rows are looked up among those of the training
    options = ["--data", str(data), "--method", "split", "--on-error", "skip"]
    assert main(["calibrate", str(out), *options, "--out", str(tmp_path / "calibrated")]) == 0
    told = capsys.readouterr().err
    assert "was trained on these conversations (40 of 40 for its posterior)" in told and "7 of 47 rows SKIPPED" in told
    assert (tmp_path / "calibrated.skipped.jsonl").read_text() == (tmp_path / "out.skipped.jsonl").read_text()


def test_without_any_nothing_is_written_or_told(plain, tmp_path, capsys):
    assert posterior(plain, write(tmp_path / "clean.jsonl", GOOD), tmp_path / "out", "--on-error", "skip") == 0
    assert "SKIPPED" not in capsys.readouterr().err and not (tmp_path / "out.skipped.jsonl").exists()


def test_errors_name_the_flags(plain, tmp_path, capsys):
    for name, remedy in [
        ("not a number", "Or leave such rows out: `--on-error skip`."),
        ("a mask", """declare the scale: `--attribute-scales '{"help": [min, max]}'`."""),
        ("no rating", "leave such rows out and have them counted, where ratings are learnt from (`--skip-unrated`)."),
        ("too long", "`--truncation left`"),
    ]:
        data = write(tmp_path / "bad.jsonl", [*GOOD, BAD[name]])
        assert posterior(plain, data, tmp_path / "out") == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert "row 40 of the rated dataset: " in told and remedy in told
    write_mixed(tmp_path / "mixed.jsonl")
    assert posterior(plain, tmp_path / "mixed.jsonl", tmp_path / "out") == 2
    assert "mixed.jsonl, line 4: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_of_skipped_rows_is_never_replaced(plain, tmp_path, capsys):
    """It may be the very data."""
    data = tmp_path / "out.skipped.jsonl"
    write(data, GOOD)
    assert posterior(plain, data, tmp_path / "out", "--on-error", "skip") == 2
    assert f"{data} exists, where skipped rows would go: move it away" in capsys.readouterr().err
    assert len(data.read_text().splitlines()) == 40


def test_a_scale_makes_a_rating_of_what_looked_like_none(plain, tmp_path, capsys):
    data = write(tmp_path / "signed.jsonl", [*GOOD, BAD["a mask"]])
    assert posterior(plain, data, tmp_path / "out", "--attribute-scales", '{"help": [-1, 4]}') == 0
    capsys.readouterr()
    model = URMForRewardModeling.from_pretrained(tmp_path / "out")
    assert model.config.attribute_scales == {"help": [-1.0, 4.0]}
    assert posterior(plain, data, tmp_path / "again", "--attribute-scales", '{"help": [0, 4]}') == 2
    assert "row 40 of the rated dataset: column `help` has the rating -1, outside its" in capsys.readouterr().err
    for wrong, told in [("{help: 4}", "must be JSON in single"), ("4", "of the form"), ('{"help": 4}', "[min, max]")]:
        try:
            assert posterior(plain, data, tmp_path / "again", "--attribute-scales", wrong) == 2
        except SystemExit as ended:
            assert ended.code == 2
        assert told in capsys.readouterr().err.splitlines()[-1]


def test_reasons_are_counted_and_not_endless(tmp_path):
    lines = [{"row": row, "reason": f"reason {row // 2}."} for row in range(15)]
    told = describe_skipped(tmp_path / "out", lines, 40)
    assert told.startswith(f"15 of 40 rows SKIPPED (see {tmp_path}/out.skipped.jsonl): 2 because reason 0; 2 because")
    assert told.endswith("reason 4; 5 for other reasons.")
