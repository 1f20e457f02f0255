"""
Rows, good and bad, and files of them: what the properties of readers and commands are tried on.

A good row is one of `format_rows`, which every reader of its kind must take. A bad one can be no row of any command.
What lies between, a good row that was damaged, may be taken or refused, but never lost.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from hypothesis import strategies as st

from tests.helpers.format_rows import EXAMPLES, assistant, user
from urm_hf.data.column_types import build_table, column_types
from urm_hf.data.formats.reading import FORMATS

PLACE = "row_number"  # a column that nobody reads and every output keeps: where the row stood
NAMES = sorted({column for one in FORMATS for column in (*one.columns, *one.optional)} | {"id", "split", "ratings"})
KEYS = ["role", "content", "from", "value", "response", "rank"]
ROWS = [row for one in EXAMPLES for row in [*one.rows, *one.ties]]
GOOD = {kind: [row for one in EXAMPLES if one.kind == kind for row in one.rows] for kind in {e.kind for e in EXAMPLES}}

HUGE = [2**63, -(2**63) - 1, 2**70, 10**400]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]
HALF = ["\ud800", "half \udfff of a pair"]  # of a surrogate pair
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*HUGE, *NOT_FINITE, *HALF, "", " ", -100])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
NO_ROWS = [
    b"{",
    b"3",
    b"null",
    b'"text"',
    b'[{"prompt": "Why?"}]',
    b'{"prompt": "Why?"} {"prompt": "How?"}',
    b'{"prompt": "Why?", "response": "Be',
    b'{"prompt": "\xff", "response": "Because."}',
    b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
]


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def image(answer: str) -> list[dict[str, Any]]:
    parts = [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/none.png"}},
        {"type": "text", "text": answer},
    ]
    return [{"role": "user", "content": parts}, assistant(answer)]


ASK = user("Why?")
REFUSED = [  # by every command: nothing in them can be scored, compared or trained on
    {},
    {"prompt": None, "response": None},
    {"prompt": "Why?", "response": " "},
    {"prompt": "Why?", "chosen": None, "rejected": None},
    {"prompt": "Why?", "chosen": "", "rejected": "No."},
    {"messages": []},
    {"messages": [{"role": "user"}]},
    {"messages": image("A river.")},
    {"messages": nested(150)},
    {"messages": [ASK, {"role": "assistant", "content": HALF[0]}]},
    {"messages": [{"role": HALF[1], "content": "Because."}]},
    {"chosen": image("A river."), "rejected": image("A sea.")},
    {"input_ids": []},
    {"input_ids": [1, 10**6]},
    {"input_ids": [1, -1]},
    {"input_ids": [1, 2**70]},
    {"input_ids": [1.5, 2.5]},
    {"text": "x" * 3000},  # tokens: more than a tiny model has positions for
    {"text": 3},
    {"unknown": "column"},
]


@dataclass(frozen=True)
class Made:
    """
    A row of a file.

    Args:
        content (`dict` or `bytes`): a row, or a line that holds none.
        bad (`bool`): whether no command can read it.
    """

    content: dict[str, Any] | bytes
    bad: bool = False


def cut_columns(row: dict[str, Any], draw) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in draw(st.lists(st.sampled_from(sorted(row))))}


def equal_sides(row: dict[str, Any], draw) -> dict[str, Any]:
    sides = [name for name in row if name.startswith(("chosen", "rejected", "response"))]
    return row | {name: row[sides[0]] for name in sides}


def turns_out_of_order(row: dict[str, Any], draw) -> dict[str, Any]:
    return {name: value[::-1] if isinstance(value, list) else value for name, value in row.items()}


def another_form(row: dict[str, Any], draw) -> dict[str, Any]:
    return row | draw(st.sampled_from(ROWS))


def other_values(row: dict[str, Any], draw) -> dict[str, Any]:
    return row | draw(st.dictionaries(st.sampled_from(sorted(row)), VALUES, max_size=2))


def unknown_columns(row: dict[str, Any], draw) -> dict[str, Any]:
    return row | draw(st.dictionaries(st.sampled_from(["question", "system", "reward", "note", "verdict"]), VALUES))


DAMAGES = [cut_columns, equal_sides, turns_out_of_order, another_form, other_values, unknown_columns]


@st.composite
def damaged_rows(draw) -> dict[str, Any]:
    """A row of a known format, of which some columns are missing or hold something else; or any columns at all."""
    row = dict(draw(st.sampled_from(ROWS) | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)))
    for damage in draw(st.lists(st.sampled_from(DAMAGES), max_size=2)):
        row = damage(row, draw) if row else row
    return row


@st.composite
def made_rows(draw, good: list[dict[str, Any]], *, lines: bool) -> Made:
    """A row of those that are good, a damaged or a bad one; `lines`: or a line that is none."""
    kinds = ["good", "good", "damaged", "refused"] + (["no row"] if lines else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "no row":
        return Made(draw(st.sampled_from(NO_ROWS)), bad=True)
    if kind == "refused":
        return Made(draw(st.sampled_from(REFUSED)), bad=True)
    return Made(draw(st.sampled_from(good) if kind == "good" else damaged_rows()))


@st.composite
def files_of(draw, good: list[dict[str, Any]], *, lines: bool = True, rows: int = 6) -> list[Made]:
    """So many rows, of which one at least is good: the first, the last or one in between."""
    made = draw(st.lists(made_rows(good, lines=lines), min_size=rows - 1, max_size=rows - 1))
    made.insert(draw(st.integers(0, rows - 1)), Made(draw(st.sampled_from(good))))
    return made


def write_rows(path: Path, rows: list[Made]) -> str:
    """A file of JSON lines or of Parquet, as its name says; each row has its number in the column `PLACE`."""
    numbered = [
        one.content if isinstance(one.content, bytes) else one.content | {PLACE: number}
        for number, one in enumerate(rows)
    ]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(build_table(numbered, column_types(numbered)), path)
    else:
        path.write_bytes(b"".join(_line(row) + b"\n" for row in numbered))
    return str(path)


def _line(row: dict[str, Any] | bytes) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row).encode()
