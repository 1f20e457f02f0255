"""The converters of examples/data, on small files of each source's form, and the checksums of files and of rows."""

import gzip
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

START = "\n\nHuman: a?\n\nAssistant: b\n\nHuman: c?"  # of a dialogue
FOLDER = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def fetch():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location("fetch_of_examples", FOLDER / "fetch.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    sys.modules.pop("converters", None)


def reading(files: dict[str, bytes]):
    return lambda path: files[path]


def test_a_dialogue_becomes_its_turns_and_two_last_answers(fetch):
    rows = [
        {"chosen": f"{START}\n\nAssistant: d", "rejected": f"{START}\n\nAssistant: e"},
        {"chosen": "\n\nHuman: a?\n\nAssistant: b", "rejected": "\n\nHuman: other?\n\nAssistant: b"},
    ]
    part = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    (pair, *_) = found = list(
        fetch.converters.convert_hh(reading({f"data/{name}/test.jsonl.gz": part for name in fetch.converters.HH}))
    )
    assert len(found) == 3  # of two prompts that differ, nothing can be learnt
    assert pair["id"] == "hh-helpful-base-0" and (pair["chosen"], pair["rejected"]) == ("d", "e")
    assert [turn["role"] for turn in pair["prompt"]] == ["user", "assistant", "user"]


def test_the_majority_of_votes_decides(fetch):
    base = {"instruction": "i", "input": "", "response1": "x", "response2": True, "cmp_key": "a_b"}
    votes = [(1, 1, 2), (2, 2, 0), (1, 2, 0)]
    rows = [
        base | {"idx": number} | {f"annotator{k + 1}": vote for k, vote in enumerate(given)}
        for number, given in enumerate(votes)
    ]
    first, second = fetch.converters.convert_pandalm(reading({"data/testset-v1.json": json.dumps(rows).encode()}))
    assert (first["chosen"], second["chosen"]) == ("x", "True")
    assert first["votes"] == {"chosen": 2, "rejected": 1, "tie": 0} and second["votes"]["tie"] == 1


def test_ratings_of_several_annotators_stay_apart(fetch):
    given = [{"consistency": 5, "fluency": 4}, {"consistency": 3, "fluency": 4}]
    row = {"id": "7", "dialogue": "| A: Hi | B: Ho", "summary": " s ", "annotations": given, "model_id": "M"}
    path = "annotation_campus/human_judgment.jsonl"
    (found,) = fetch.converters.convert_dialsummeval(reading({path: json.dumps(row).encode()}))
    assert found["ratings"] == {"consistency": [5.0, 3.0], "fluency": [4.0, 4.0]} and found["response"] == "s"
    assert found["prompt"][0]["content"].endswith("\n\nA: Hi\nB: Ho")


def test_every_set_has_splits_without_overlap_and_as_many_rows_as_it_says(fetch):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, source in fetch.SOURCES.items():
        splits = json.loads((FOLDER / "splits" / f"{name}.json").read_text(encoding="utf-8"))
        counted = Counter(row for rows in splits.values() for row in rows)
        assert len(counted) == source["rows"] and set(counted.values()) == {1}
        assert len(source["commit"]) == 40 and source["licence"] and f"`{name}`" in readme
        assert callable(getattr(fetch.converters, source["converter"]))


def test_files_and_rows_that_changed_are_refused(fetch, tmp_path, monkeypatch):
    """A set of one row, from a clone; then with another file, and with other rows than are known."""
    given = {"id": "7", "dialogue": "| A: Hi", "summary": "s", "annotations": [{"fluency": 4}], "model_id": "M"}
    path = tmp_path / "o+r" / "annotation_campus" / "human_judgment.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(given))
    name = "ratings_dialsummeval"
    known = fetch.hashlib.sha256(path.read_bytes()).hexdigest()
    files = {"annotation_campus/human_judgment.jsonl": known}
    source = fetch.SOURCES[name] | {"repository": "o/r", "files": files, "rows": 1}
    monkeypatch.setattr(fetch, "HERE", tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / f"{name}.json").write_text('{"test": ["dse-7-M"]}')
    monkeypatch.setitem(fetch.SOURCES, name, source)
    with pytest.raises(ValueError, match="1 of 1 rows came out"):
        fetch.convert(name, tmp_path)
    (row,) = fetch.converters.convert_dialsummeval(lambda _: path.read_bytes())
    monkeypatch.setitem(fetch.SOURCES, name, source | {"sha256": fetch.digest([row | {"split": "test"}])})
    fetch.main([name, "--mirror", str(tmp_path), "--out", str(tmp_path / "data")])
    written = json.loads(gzip.decompress((tmp_path / "data" / f"{name}.jsonl.gz").read_bytes()))
    assert written["split"] == "test" and written["source"].startswith("o/r@")
    path.write_text(json.dumps(given) + "\n")
    with pytest.raises(SystemExit, match="another checksum"):
        fetch.main([name, "--mirror", str(tmp_path), "--out", str(tmp_path / "data")])
