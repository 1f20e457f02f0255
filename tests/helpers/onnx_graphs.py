"""Whether ONNX Runtime gives the numbers of the model that a graph was exported from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny import pad_rows, random_rows
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMForRewardModeling


@torch.no_grad()
def assert_equal_outputs(path: Path, urm: URMForRewardModeling, batches: list[list[int]]):
    """All outputs of both, of batches of conversations of so many tokens."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for lengths in batches:
        batch = pad_rows(random_rows(lengths))
        ids, mask = batch["input_ids"], batch["attention_mask"]
        names = [entry.name for entry in session.get_inputs()]
        found = session.run(None, dict(zip(names, (ids.numpy(), mask.numpy()), strict=True)))
        for ours, theirs in zip(found, urm(ids, mask).to_tuple(), strict=True):
            assert_close(np.asarray(ours), theirs, msg=str(lengths))
