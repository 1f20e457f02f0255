"""Packs against padded batches of the same sequences, on every family; and what packs are not for."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from tests.helpers.branching import tree
from tests.helpers.tiny import FAMILIES, PAD, pad_rows, tiny_backbone_config
from tests.helpers.tolerances import assert_close
from urm_hf.scoring.engine.packed_attention import (
    gives_same_states,
    last_hidden_states,
    longest_window,
    packed_attention,
)
from urm_hf.scoring.engine.prefixes import pack, prefix_order
from urm_hf.scoring.engine.readings import build_readings
from urm_hf.scoring.engine.running_pack import RunningPack

FULL = {"mistral": {"sliding_window": None}}


def backbone_of(family: str, **kwargs):
    torch.manual_seed(0)
    return AutoModel.from_config(tiny_backbone_config(family, **(FULL.get(family, {}) | kwargs))).eval()


@torch.no_grad()
def states_alone(backbone, rows) -> torch.Tensor:
    states = [backbone(**pad_rows([row]), use_cache=False).last_hidden_state[0, -1] for row in rows]
    return torch.stack(states)


@torch.no_grad()
def states_packed(backbone, rows, block=256) -> torch.Tensor:
    return last_hidden_states(backbone, pack(rows, prefix_order(rows)[1], block))


@pytest.mark.parametrize("block", [1, 5, 256])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_each_sequence_alone(family, block):
    backbone = backbone_of(family)
    for seed in range(3):
        rows = tree(seed)
        assert_close(states_packed(backbone, rows, block), states_alone(backbone, rows))


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2, 3, 4], [1, 2, 3, 5]],
        [[1, 2], [1, 2, 3], [1, 2, 3, 4]],
        [[5]],
        [[1], [2], [3]],
        [[9, 9, 9], [9, 9, 9, 9, 9, 9]],
    ],
    ids=["one token differs", "each the beginning of the next", "one token", "nothing shared", "repetition"],
)
def test_states_of_trees_of_special_form(rows):
    backbone = backbone_of("llama")
    assert_close(states_packed(backbone, rows), states_alone(backbone, rows))


def test_states_in_half_precision_are_near_those_of_each_sequence_alone():
    backbone = backbone_of("llama").to(torch.bfloat16)
    rows = tree(0)
    expected = states_alone(backbone, rows).float()
    assert (states_packed(backbone, rows).float() - expected).norm() < 0.05 * expected.norm()


def test_the_mask_that_other_devices_get_is_that_of_the_cpu():
    packed = pack(tree(1), prefix_order(tree(1))[1], 7)
    ours = build_readings(packed, torch.float32, torch.device("cpu"))
    theirs = build_readings(packed, torch.float32, torch.device("cuda"))
    assert any(reading.mask is not None for reading in ours)
    for a, b in zip(ours, theirs):
        assert (a.mask is None) == (b.mask is None)
        if a.mask is not None:
            assert torch.equal(a.mask == 0, b.mask._materialize())


def test_a_token_that_is_not_a_number_stays_with_those_who_share_it():
    backbone = backbone_of("llama")
    with torch.no_grad():
        backbone.embed_tokens.weight[7] = float("nan")
    rows = [[1, 2, 3], [1, 2, 7], [1, 2, 7, 4], [5, 6]]
    finite = states_packed(backbone, rows).isfinite().all(-1)
    assert finite.tolist() == [True, False, False, True]


def test_the_attention_of_the_backbone_is_left_as_it_was():
    backbone = backbone_of("llama")
    before = backbone.config._attn_implementation
    states_packed(backbone, tree(0))
    assert backbone.config._attn_implementation == before
    with pytest.raises(IndexError):
        states_packed(backbone, [[10**6]])
    assert backbone.config._attn_implementation == before


def test_threads_do_not_read_each_others_packs():
    backbones, trees = [backbone_of("llama"), backbone_of("qwen3")], [tree(seed) for seed in range(8)]
    jobs = [(backbone, rows) for rows in trees for backbone in backbones]
    expected = [states_packed(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: states_packed(*job), jobs))
    for ours, alone in zip(found, expected):
        assert_close(ours, alone)


# What packs are for


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_lets_decoders_through(family):
    assert gives_same_states(backbone_of(family), tree(0)[-1], PAD)


def test_the_probe_turns_away_an_encoder(caplog):
    caplog.set_level("DEBUG", logger="urm_hf")
    config = BertConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    assert not gives_same_states(BertModel(config).eval(), list(range(20)), PAD)
    assert "BertModel" in caplog.text


@pytest.mark.parametrize("family", ["mamba", "gpt_neo", "bloom"])
def test_the_probe_turns_away_what_does_not_attend_through_the_interface(family):
    sizes = {
        "mamba": {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4},
        "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
        "bloom": {"hidden_size": 32, "n_layer": 1, "n_head": 2},
    }
    torch.manual_seed(0)
    backbone = AutoModel.from_config(AutoConfig.for_model(family, vocab_size=260, pad_token_id=PAD, **sizes[family]))
    assert not gives_same_states(backbone.eval(), list(range(20)), PAD)


def test_the_probe_turns_away_a_backbone_that_caps_its_logits():
    shape = {"attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 32}
    assert not gives_same_states(backbone_of("gemma2", **shape), list(range(20)), PAD)


def test_the_probe_turns_away_other_positions():
    class Displaced(type(backbone_of("llama"))):
        def forward(self, input_ids=None, position_ids=None, **kwargs):
            return super().forward(input_ids=input_ids, **kwargs)

    assert not gives_same_states(Displaced(tiny_backbone_config("llama")).eval(), list(range(20)), PAD)


def test_the_window_of_a_backbone_is_found():
    assert longest_window(backbone_of("mistral", sliding_window=4)) == 4
    assert longest_window(backbone_of("llama")) is None


def test_dropout_is_not_applied_in_packs():
    with pytest.raises(ValueError, match="not plain causal attention"):
        packed_attention(
            RunningPack(pack([[1]], [0])), torch.nn.Identity(), *[torch.zeros(1, 1, 2, 4)] * 3, None, dropout=0.1
        )
