"""Rows from files and the Hub, and the conversations in them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urm_hf.data.tables import from_ultrafeedback, load_rows, read_jsonl

__all__ = ["from_ultrafeedback", "load_rows", "read_jsonl"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from urm_hf.data import tables  # only when needed: `datasets` takes a second to import

    return getattr(tables, name)
