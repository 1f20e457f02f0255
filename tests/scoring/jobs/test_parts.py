"""Finished parts: whole or not there, of one job only, and merged without loss."""

import gzip
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from urm_hf.data.source import read_items
from urm_hf.scoring.jobs.parts import COUNTS, PartFolder, check_job_output, check_output

MANIFEST = {"model": ["a@1"], "rows": 5}
ROWS = [[{"id": 0, "reward": 1}, {"id": 1, "reward": 0.5}], [{"id": 2, "reward": 0.25, "note": "ü"}], [{"id": 3}]]


def counts(rows: int, skipped: int = 0) -> dict[str, int]:
    return dict.fromkeys(COUNTS, 0) | {"rows": rows + skipped, "scored": rows, "skipped": skipped}


def folder_of(path, parts=3, **changes) -> PartFolder:
    folder = PartFolder(path, MANIFEST | changes, parts)
    folder.open()
    return folder


def finish(folder: PartFolder, order=(0, 1, 2), skipped=()):
    for number in order:
        bad = [{"row": number}] if number in skipped else []
        folder.write(number, ROWS[number], bad, counts(len(ROWS[number]), len(bad)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_rows_are_merged_in_their_order(tmp_path, name, order):
    folder = folder_of(tmp_path / name)
    finish(folder, order)
    assert folder.merge() == counts(4)
    out = tmp_path / name
    if out.suffix == ".parquet":
        read = parquet.read_table(out).to_pylist()
        expected = [{"reward": None, "note": None} | row for part in ROWS for row in part]
    else:
        read = [json.loads(line) for line in (gzip.open if out.suffix == ".gz" else open)(out, "rt", encoding="utf-8")]
        expected = [row for part in ROWS for row in part]
    assert read == expected
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_equal_parts_make_equal_files(tmp_path, name):
    written = []
    for order in ((0, 1, 2), (1, 2, 0)):
        folder = folder_of(tmp_path / name)
        finish(folder, order)
        folder.merge()
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_types_of_parquet_columns_are_those_that_hold_all_parts(tmp_path):
    folder = folder_of(tmp_path / "out.parquet", parts=2)
    folder.write(0, [{"a": 1, "b": None, "c": {"x": 1, "y": None}}], [], counts(1))
    folder.write(1, [{"a": 0.5, "b": ["t"], "c": {"x": 2, "y": "z"}}], [], counts(1))
    folder.merge()
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"a": 1.0, "b": None, "c": {"x": 1, "y": None}},
        {"a": 0.5, "b": ["t"], "c": {"x": 2, "y": "z"}},
    ]


def test_what_parquet_cannot_hold_is_json_text_there_and_read_as_it_was(tmp_path):
    values = [{}, {"x": 1}, {"y": None}, 1 << 63, 1 << 70, "5", 5, [1, "a"], "half a pair: \ud800", None, 1e300]
    rows = [{"id": value, "key": number} for number, value in enumerate(values)]
    folder = folder_of(tmp_path / "out.parquet", parts=2)
    folder.write(0, rows[:4], [], counts(4))
    folder.write(1, rows[4:], [], counts(len(rows) - 4))
    folder.merge()
    assert list(read_items(tmp_path / "out.parquet")) == rows
    texts = parquet.read_table(tmp_path / "out.parquet")["id"].to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == values


def test_a_part_without_rows_is_a_part(tmp_path):
    folder = folder_of(tmp_path / "out.parquet", parts=2)
    folder.write(0, [], [{"row": 0}], counts(0, 1))
    folder.write(1, ROWS[1], [], counts(1))
    assert folder.merge() == counts(1, 1)
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 1


def test_skipped_rows_have_a_file_of_their_own(tmp_path):
    folder = folder_of(tmp_path / "out.jsonl")
    finish(folder, skipped=(0, 2))
    assert folder.merge()["skipped"] == 2
    lines = (tmp_path / "out.jsonl.skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [0, 2]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_of_rows_skipped_in_an_earlier_job_is_removed_if_it_may_be(tmp_path, overwrite):
    for skipped in ((0,), ()):
        folder = folder_of(tmp_path / "out.jsonl")
        folder.overwrite = overwrite
        finish(folder, skipped=skipped)
        folder.merge()
    left = [] if overwrite else ["out.jsonl.skipped.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", *left]


def test_finished_parts_are_found_again(tmp_path):
    finish(folder_of(tmp_path / "out.jsonl"), order=(1,))
    again = folder_of(tmp_path / "out.jsonl")
    assert (again.missing(), again.done(1)) == ([0, 2], True)
    assert again.claim(1) is None


def test_a_part_is_claimed_by_one_until_it_is_released(tmp_path):
    one, other = folder_of(tmp_path / "out.jsonl"), folder_of(tmp_path / "out.jsonl")
    lock = one.claim(0)
    assert lock is not None and other.claim(0) is None
    lock.release()
    taken = other.claim(0)
    assert taken is not None
    taken.release()


@pytest.mark.parametrize("changes", [{"model": ["a@2"]}, {"rows": 6}, {"dtype": "float16"}])
def test_parts_of_another_job_are_refused_and_what_differs_is_named(tmp_path, changes):
    finish(folder_of(tmp_path / "out.jsonl"), order=(1,))
    with pytest.raises(
        ValueError, match=f"parts of another job, which must not be mixed .*{next(iter(changes))} was "
    ):
        folder_of(tmp_path / "out.jsonl", **changes)
    assert folder_of(tmp_path / "out.jsonl").missing() == [0, 2]


def test_a_setting_that_the_manifest_lacks_is_refused_too(tmp_path):
    finish(folder_of(tmp_path / "out.jsonl", new=1), order=(1,))
    with pytest.raises(ValueError, match="new was 1, is None"):
        folder_of(tmp_path / "out.jsonl")


def test_a_folder_without_finished_parts_is_begun_anew(tmp_path):
    folder_of(tmp_path / "out.jsonl")
    assert folder_of(tmp_path / "out.jsonl", rows=9).missing() == [0, 1, 2]


def test_only_one_of_two_merges(tmp_path):
    one, other = folder_of(tmp_path / "out.jsonl"), folder_of(tmp_path / "out.jsonl")
    finish(one)
    assert one.merge() == counts(4)
    assert other.merge() is None
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("removed", range(11))
def test_a_merge_that_was_interrupted_is_done_again(tmp_path, monkeypatch, removed):
    folder = folder_of(tmp_path / "out.jsonl")
    finish(folder)
    left, unlink = iter(range(removed)), Path.unlink

    def unlink_some(path, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink_some)
        with pytest.raises(KeyboardInterrupt):
            folder.merge()
    again = folder_of(tmp_path / "out.jsonl")
    finish(again, order=again.missing())
    assert again.merge() == counts(4)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_output_of_another_type_is_told(tmp_path):
    with pytest.raises(ValueError, match="unknown type of output; expected one of .jsonl"):
        check_output(tmp_path / "out.txt")


def test_a_part_that_another_run_writes_just_now_is_not_foreign(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    folder = folder_of(out)
    listed = Path.iterdir

    def list_late(path):
        if path == folder.path and not folder.done(0):
            finish(folder, [0])
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", list_late)
    check_job_output(out, [], skips=False, overwrite=False)
    assert folder.done(0)
    (folder.path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds notes.txt"):
        check_job_output(out, [], skips=False, overwrite=False)
