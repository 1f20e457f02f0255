"""An exported graph takes any number and length of conversations and gives the same numbers: torch.export and ONNX."""

import pytest
import torch
from torch.export import Dim

from tests.helpers.onnx_graphs import assert_equal_outputs
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


def test_onnx_runtime_gives_the_same_numbers(tmp_path):
    """Of a Qwen3; of a Llama where the program of docs/compatibility.md is run."""
    pytest.importorskip("onnxscript")
    urm = tiny_urm("qwen3")
    torch.onnx.export(export(urm), dynamo=True, verbose=False).save(str(tmp_path / "urm.onnx"))
    assert_equal_outputs(tmp_path / "urm.onnx", urm, [TRACED, *OTHERS])
