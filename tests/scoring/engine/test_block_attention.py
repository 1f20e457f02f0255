"""FlexAttention with the mask of a tree gives the states of attention in spans; on a CPU it goes forward only."""

import functools

import pytest
import torch
from transformers import AutoModel

from tests.helpers.branching import tree
from tests.helpers.tiny import tiny_backbone_config
from tests.helpers.tolerances import assert_close
from urm_hf.scoring.engine.packed_attention import last_hidden_states
from urm_hf.scoring.engine.prefixes import pack_rows
from urm_hf.scoring.engine.readings import build_readings, cut_paths, read_until
from urm_hf.scoring.engine.running_pack import RunningPack


def reads(packed) -> torch.Tensor:
    """(T, T) whether the token of a row reads that of a column, by the spans."""
    table = torch.zeros(len(packed.tokens), len(packed.tokens), dtype=torch.bool)
    for (start, stop), path in packed.queries:
        for token in range(start, stop):
            for begin, end in path:
                table[token, begin : min(end, token + 1)] = True
    return table


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_one_number_a_token_is_the_whole_tree(seed, share):
    packed = pack_rows(tree(seed), share=share)
    length = len(packed.tokens)
    until, place = torch.tensor(read_until(packed, length + 5)), torch.arange(length + 5)
    by_rule = (place[None] <= place[:, None]) & (place[:, None] < until[None])
    assert by_rule[:length, :length].equal(reads(packed))
    assert by_rule[length:].equal(torch.eye(length + 5, dtype=torch.bool)[length:])  # what rounds up reads itself


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_states_are_those_of_spans(monkeypatch, family):
    torch.manual_seed(0)
    backbone = AutoModel.from_config(tiny_backbone_config(family)).eval()
    packed = pack_rows(tree(1), share=True)
    states = {}
    for backend in ("spans", "blocks"):
        make = functools.partial(RunningPack, backend=backend)
        monkeypatch.setattr("urm_hf.scoring.engine.packed_attention.RunningPack", make)
        with torch.no_grad():
            states[backend] = last_hidden_states(backbone, packed)
    assert_close(states["blocks"], states["spans"])


def test_autocast_gives_blocks_one_precision(monkeypatch):
    """Rotated queries are float32 under autocast, values bfloat16: kernels take one precision only."""
    torch.manual_seed(0)
    backbone = AutoModel.from_config(tiny_backbone_config()).eval()
    packed = pack_rows(tree(1), share=True)
    expected = last_hidden_states(backbone, packed)
    make = functools.partial(RunningPack, backend="blocks")
    monkeypatch.setattr("urm_hf.scoring.engine.packed_attention.RunningPack", make)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(last_hidden_states(backbone, packed).float(), expected, dtype=torch.bfloat16, roundings=16)


@pytest.mark.parametrize("seed", range(4))
def test_paths_are_made_of_pieces(seed):
    packed = pack_rows(tree(seed), share=True)
    readings = build_readings(packed, torch.float32, torch.device("cpu"))
    sizes, pieces = cut_paths([reading.path for reading in readings], len(packed.tokens) + 7)
    assert sum(sizes) == len(packed.tokens) + 7 and min(sizes) > 0
    numbers = torch.arange(sum(sizes)).split(sizes)
    for reading, chosen in zip(readings, pieces, strict=True):
        expected = [place for start, stop in reading.path for place in range(start, stop)]
        assert torch.cat([numbers[number] for number in chosen]).tolist() == expected
