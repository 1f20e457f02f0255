"""An exported graph takes any number and length of conversations and gives the same numbers: torch.export and ONNX."""

import numpy as np
import pytest
import torch
from torch.export import Dim

from tests.helpers.tiny import FAMILIES, pad_rows, random_rows, tiny_urm
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMForRewardModeling

TRACED = [9, 11, 4]  # lengths of the conversations that the graph is made with
OTHERS = [[5], [30, 3, 17, 8, 30, 1, 12], [2, 2]]
OPEN = {0: Dim.AUTO, 1: Dim.AUTO}  # batch and length


def inputs(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = pad_rows(random_rows(lengths))
    return batch["input_ids"], batch["attention_mask"]


def export(urm: URMForRewardModeling) -> torch.export.ExportedProgram:
    return torch.export.export(urm, inputs(TRACED), dynamic_shapes=(OPEN, OPEN), strict=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_export_keeps_batch_and_length_open(family):
    urm = tiny_urm(family)
    graph = export(urm).module()
    for lengths in (TRACED, *OTHERS):
        found, expected = graph(*inputs(lengths)), urm(*inputs(lengths))
        for name in ("logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std"):
            assert_close(found[name], expected[name], msg=f"{lengths} {name}")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_onnx_runtime_gives_the_same_numbers(family, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    urm = tiny_urm(family)
    torch.onnx.export(export(urm), dynamo=True, verbose=False).save(str(tmp_path / "urm.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "urm.onnx"), providers=["CPUExecutionProvider"])
    for lengths in (TRACED, *OTHERS):
        ids, mask = inputs(lengths)
        found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        expected = urm(ids, mask).to_tuple()
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_close(np.asarray(ours), theirs, msg=str(lengths))
