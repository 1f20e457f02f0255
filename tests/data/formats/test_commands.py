"""
Every format through every command that takes it, up to the token ids; and the table of both in docs/data.md.

No model is needed for it: commands differ in how they read rows, and what is read is encoded by one function.
"""

import json
from pathlib import Path

import pytest

from tests.helpers.format_rows import EXAMPLES, Example
from tests.helpers.tiny import CHATML, tiny_tokenizer
from urm_hf.bestofn.data import read_candidates
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.canonical import read_dataset
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.formats.reading import BY_NAME
from urm_hf.data.ratings import read_ratings
from urm_hf.data.source import Source
from urm_hf.data.survey.survey import Surveyor
from urm_hf.data.tables import load_rows
from urm_hf.evaluation.data import DataOptions, load_data
from urm_hf.judge.pairs import read_pairs

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
COMMANDS = ("score", "train attributes", "train gating", "evaluate", "bestofn", "judge", "data")
TOKENIZER = tiny_tokenizer()
TOKENIZER.chat_template = CHATML.replace(
    "message['content']", "message['content'] + (message['tool_calls'] | tojson if message['tool_calls'] else '')"
).replace("{{ bos_token }}", "{{ bos_token }}{{ tools | tojson if tools else '' }}")


def write(path: Path, rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def score_ids(example: Example) -> set[tuple[int, ...]]:
    rows = [*example.rows, *example.ties]
    return {tuple(one.encode(TOKENIZER)) for row in rows for _, one in conversations_of(dict(row), Columns())}


def attribute_ids(example: Example, folder: Path) -> set[tuple[int, ...]]:
    dataset = read_dataset(load_rows(str(write(folder / "rated.jsonl", example.rows))), split_candidates)
    for row in dataset:
        assert read_ratings(row, example.rated)
    return {tuple(encode_conversation(TOKENIZER, row)) for row in dataset}


def gating_ids(example: Example, folder: Path) -> set[tuple[int, ...]]:
    dataset = read_dataset(load_rows(str(write(folder / "pairs.jsonl", [*example.rows, *example.ties]))), rank_pairs)
    sides = ("chosen", "rejected")
    return {tuple(encode_conversation(TOKENIZER, row, side)) for row in dataset for side in sides}


def evaluate_ids(example: Example, folder: Path) -> set[tuple[int, ...]]:
    path = write(folder / f"{example.format}.jsonl", [*example.rows, *example.ties])
    data = load_data(str(path), DataOptions(attributes=example.rated if example.kind != "pair" else None))
    assert sum(data.content.skipped.values()) == len(example.ties)
    return {tuple(encode_conversation(TOKENIZER, one)) for one in data.conversations}


def candidate_ids(example: Example, folder: Path) -> set[tuple[int, ...]]:
    rows = read_candidates(Source(str(write(folder / "candidates.jsonl", example.rows))))
    return {tuple(one.encode(TOKENIZER)) for row in rows for one in row.conversations}


def judged_texts(example: Example, folder: Path) -> int:
    return len(list(read_pairs(Source(str(write(folder / "judge.jsonl", example.rows))), Columns())))


def survey_ids(example: Example) -> set[tuple[int, ...]]:
    rows = [*example.rows, *example.ties]
    surveyor = Surveyor(TOKENIZER, 512, show=1000)
    for row in rows:
        surveyor.add(row)
    assert surveyor.found.problems == {} and surveyor.found.formats == {example.format: len(rows)}
    return {tuple(one.encode(TOKENIZER)) for one in surveyor.found.shown}


def ids_of(command: str, example: Example, folder: Path) -> set[tuple[int, ...]] | int | None:
    """What a command reads; None if it refuses rows of this format."""
    readers = {
        "score": lambda: score_ids(example),
        "train attributes": lambda: attribute_ids(example, folder) if example.rated else None,
        "train gating": lambda: gating_ids(example, folder),
        "evaluate": lambda: evaluate_ids(example, folder),
        "bestofn": lambda: candidate_ids(example, folder),
        "judge": lambda: judged_texts(example, folder),
        "data": lambda: survey_ids(example),
    }
    try:
        return readers[command]()
    except ValueError:
        return None


def build_table(taken: dict[str, list[str]]) -> str:
    lines = [f"| format | {' | '.join(COMMANDS)} | published as |", "|---" * (len(COMMANDS) + 2) + "|"]
    for name, commands in taken.items():
        cells = ["yes" if command in commands else "" for command in COMMANDS]
        lines.append(f"| {name} | {' | '.join(cells)} | {BY_NAME[name].source} |")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return {one.format: {command: ids_of(command, one, folder) for command in COMMANDS} for one in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.format)
def test_all_commands_give_the_same_ids(read, example):
    found = read[example.format]
    if example.kind == "prompt":
        assert found["score"] is None and found["data"] == set()
        return
    assert found["score"] and found["data"] == found["score"]
    decided = score_ids(Example(example.format, example.kind, example.rows))
    for command in ("train attributes", "train gating", "evaluate", "bestofn"):
        assert found[command] is None or found[command] == decided, command


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.format)
def test_what_a_format_holds_says_which_commands_take_it(read, example):
    found = {command for command in COMMANDS if read[example.format][command] is not None}
    if example.kind == "pair":
        judged = set() if example.format == "preference-implicit" else {"judge"}  # its text tells no prompt
        assert found >= {"score", "train gating", "evaluate", *judged}
    if example.kind == "candidates":
        assert "bestofn" in found
    assert ("train attributes" in found) == bool(example.rated)


def test_the_page_on_data_has_the_table(read):
    taken = {name: [command for command in COMMANDS if by[command] is not None] for name, by in read.items()}
    table = build_table(taken)
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/data.md must hold this table:\n{table}"
