"""Which columns rows have, what stands in them, and which of them the format reads."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from urm_hf.data.formats.format import Row
from urm_hf.data.formats.values import is_list_of, is_messages

OTHER_ROLES = {"split": "split", "subset": "subset", "tools": "tools", "weight": "weight", "margin": "margin"}
TYPES = {str: "text", bool: "yes or no", int: "number", float: "number", dict: "object"}


@dataclass
class Column:
    """
    Args:
        filled (`int`): rows in which it is not null or empty. types (`Counter`): how often each kind of value occurs.
        role (`str`): what it is read as; "no" if it is not.
    """

    filled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    role: str = "no"
    example: str = ""

    def add(self, value: Any, role: str):
        if self.role == "no":
            self.role = role
        if value is None or value == "" or value == []:
            return
        self.filled += 1
        self.types[describe_type(value)] += 1
        if not self.example:
            self.example = " ".join(str(value)[:200].split())


def describe_type(value: Any) -> str:
    """What a value is, in a word or two."""
    if is_messages(value):
        return "messages"
    if isinstance(value, (list, tuple)):
        for kind, name in ((str, "texts"), ((int, float), "numbers"), (dict, "objects")):
            if is_list_of(value, kind):
                return f"list of {name}"
        return "list"
    return TYPES.get(type(value), type(value).__name__)


def add_columns(columns: dict[str, Column], row: Row, read: Collection[str], numbers: Collection[str]):
    """
    Counts the columns of a row.

    Args:
        read (`Collection[str]`): those that the format reads. numbers (`Collection[str]`): names of what could be
            ratings.
    """
    for name, value in row.items():
        if name in OTHER_ROLES:
            role = OTHER_ROLES[name]
        elif name in numbers or (name in ("ratings", "scale") and numbers):
            role = "ratings"  # formats read these too, but no model gets to see them
        else:
            role = "conversation" if name in read else "no"
        columns.setdefault(str(name), Column()).add(value, role)
