"""Tiny models, tokenizers and folders, built in code: no test touches the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm


@pytest.fixture
def saved_urm(tmp_path) -> str:
    """A folder with `tiny_urm()` and `tiny_tokenizer()`."""
    return save_with_tokenizer(tiny_urm(), tmp_path / "urm")
