"""Columns of a `datasets.Dataset` that hold JSON text and give back exactly what was written."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow
from datasets import Dataset, DatasetInfo, Features, Json
from datasets.table import InMemoryTable


@dataclass
class ExactJson(Json):
    """
    The feature `Json` of `datasets` with the standard library's decoder.

    That of `datasets` fails on integers over 64 bits, loses half surrogate pairs, and reads text that looks like JSON
    ("5") as JSON. It is stored by the name `Json`, so that a dataset saved by this one loads anywhere.
    """

    def encode_example(self, example_data: Any) -> str | None:
        return None if example_data is None else json.dumps(example_data)

    def decode_example(self, example_data: str | None, token_per_repo_id: Any = None) -> Any:
        return None if example_data is None else json.loads(example_data)


def dataset_of(table: pyarrow.Table) -> Dataset:
    """A dataset of a table, whose columns of JSON text are decoded exactly."""
    features = Features.from_arrow_schema(table.schema)
    for name, feature in features.items():
        if isinstance(feature, Json):
            features[name] = ExactJson()
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features))
