"""
The type of Arrow that holds a column exactly, or JSON text where none does.

Arrow gives all values of a column one type, and objects the union of their keys. What would come out with keys that
nobody wrote, in another order of keys, or not at all (integers over 64 bits, text beside lists, half a surrogate pair)
is kept as JSON text. Numbers are widened, 1 and 2.5 to 1.0 and 2.5, unless they stand in an object: chat templates
print those.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow

Shape: TypeAlias = str | tuple  # of values: a name below, ("list", of what) or ("object", names, of what each)
EXACT = 1 << 53  # integers up to here are floating-point numbers as well
DEEPEST = 32  # Parquet files with more than 100 levels are written but never read again, and a list takes two
ARROW = {
    "null": pyarrow.null(),
    "bool": pyarrow.bool_(),
    "int": pyarrow.int64(),
    "long": pyarrow.int64(),
    "float": pyarrow.float64(),
    "text": pyarrow.string(),
}


def column_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, pyarrow.DataType]:
    """The type of each column, in the order in which the rows bring them. A row may lack some."""
    shapes: dict[str, Shape | None] = {}
    for row in rows:
        for name, value in row.items():
            before = shapes.get(name, "null")
            shapes[name] = None if before is None else join_shapes(before, shape_of(value), widen=True)
    return {name: _column_type(shape) for name, shape in shapes.items()}


def build_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pyarrow.DataType]) -> pyarrow.Table:
    """Rows as a table with columns of these types; null where a row lacks one."""
    columns = {}
    for name, kind in types.items():
        values = [row.get(name) for row in rows]
        if isinstance(kind, pyarrow.JsonType):
            values = [None if value is None else json.dumps(value, default=str) for value in values]
        columns[name] = pyarrow.array(values, kind)
    return pyarrow.table(columns)


def shape_of(value: Any, widen: bool = True) -> Shape | None:
    """What a value is made of; None if Arrow cannot hold it as it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= EXACT else "long" if -(1 << 63) <= value < 1 << 63 else None
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "text" if value.isascii() or _is_encodable(value) else None
    if isinstance(value, list):
        inner: Shape | None = "null"
        for each in value:
            inner = join_shapes(inner, shape_of(each, widen), widen)
        return None if inner is None else ("list", inner)
    if isinstance(value, dict) and value and all(map(is_column_name, value)):
        shapes = tuple(shape_of(inner, widen=False) for inner in value.values())
        return None if None in shapes else ("object", tuple(value), shapes)
    return None


def join_shapes(one: Shape | None, other: Shape | None, widen: bool) -> Shape | None:
    """What holds values of both; None if nothing does."""
    if one is None or other is None:
        return None
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    scalars = {one, other}
    if scalars == {"int", "long"}:
        return "long"
    if scalars == {"int", "float"} and widen:
        return "float"
    if isinstance(one, str) or isinstance(other, str) or one[:-1] != other[:-1]:
        return None
    if one[0] == "list":
        inner = join_shapes(one[1], other[1], widen)
        return None if inner is None else ("list", inner)
    pairs = zip(one[2], other[2], strict=True)
    shapes = tuple(join_shapes(first, second, widen=False) for first, second in pairs)
    return None if None in shapes else ("object", one[1], shapes)


def _column_type(shape: Shape | None) -> pyarrow.DataType:
    return pyarrow.json_() if shape is None or _depth(shape) > DEEPEST else _arrow(shape)


def _depth(shape: Shape) -> int:
    """How many lists and objects stand in one another."""
    if isinstance(shape, str):
        return 0
    inner = [shape[1]] if shape[0] == "list" else shape[2]
    return 1 + max(map(_depth, inner))


def _arrow(shape: Shape) -> pyarrow.DataType:
    if isinstance(shape, str):
        return ARROW[shape]
    if shape[0] == "list":
        return pyarrow.list_(_arrow(shape[1]))
    return pyarrow.struct([(name, _arrow(inner)) for name, inner in zip(shape[1], shape[2], strict=True)])


def is_column_name(name: str) -> bool:
    """Whether Arrow holds a name: it writes UTF-8, and cuts off what follows a zero."""
    return "\0" not in name and (name.isascii() or _is_encodable(name))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
