"""Rewards from threads: the same numbers, whatever else is done with the model meanwhile."""

import copy
import pickle
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tests.helpers.adapters import edit, save_adapter
from tests.helpers.tiny import random_rows, save_members, save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.scoring.engine.packed_attention import install_attention
from urm_hf.scoring.engine.running_pack import NotPackable

THREADS = 4


def make_sequences(count: int) -> list[list[int]]:
    """Half of them branch off from one beginning, so that they go in packs with shared prefixes."""
    rng = random.Random(3)
    beginning = [rng.randrange(256) for _ in range(40)]
    rows = [[rng.randrange(256) for _ in range(rng.randint(1, 40))] for _ in range(count)]
    return [beginning + row if number % 2 else row for number, row in enumerate(rows)]


SEQUENCES = make_sequences(60)


def read_rewards(scorer, rows) -> list[float]:
    return [score.reward for score in scorer.score_ids(rows)]


@torch.inference_mode()
def reward_directly(model, row) -> float:
    return model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long)).logits.item()


def score_in_threads(score, sequences, count: int) -> list[float]:
    """The largest difference from the rewards of one thread, of draws of 20 rows each, `count` rewards in all."""
    expected = {tuple(row): reward for row, reward in zip(sequences, score(sequences), strict=True)}
    draws = [random.Random(seed).choices(sequences, k=20) for seed in range(count // 20)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(score, draws))
    pairs = zip(sum(draws, []), sum(found, []), strict=True)
    return [abs(reward - expected[tuple(row)]) for row, reward in pairs]


def test_a_thousand_rewards_from_four_threads_are_those_of_one(record_property):
    record_property("promise", "Rewards from four threads are those of one")
    record_property("trials", 1000)
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    differences = score_in_threads(lambda rows: read_rewards(scorer, rows), SEQUENCES, 1000)
    assert len(differences) == 1000 and max(differences) < 1e-4


def test_plain_forward_passes_beside_scorers_are_right_and_so_are_the_scorers():
    model = tiny_urm()
    warm, turn = RewardScorer(model, tiny_tokenizer()), random.Random(0)

    def score(rows):
        how = turn.choice(["warm", "new", "direct"])
        if how == "direct":
            return [reward_directly(model, row) for row in rows]
        return read_rewards(warm if how == "warm" else RewardScorer(model, tiny_tokenizer()), rows)

    assert max(score_in_threads(score, SEQUENCES, 400)) < 1e-4


@pytest.mark.parametrize("window", [16, 4096])
def test_sliding_windows_in_threads(window):
    model = tiny_urm("mistral", sliding_window=window)
    scorer = RewardScorer(model, tiny_tokenizer())

    def score(rows):
        return read_rewards(scorer, rows[:10]) + [reward_directly(model, row) for row in rows[10:]]

    assert max(score_in_threads(score, SEQUENCES, 200)) < 1e-4


@pytest.mark.parametrize("strategy", ["resident", "sequential"])
def test_ensembles_in_threads(tmp_path, strategy):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    scorer = RewardScorer(URMEnsemble.from_pretrained(folders, strategy=strategy), tiny_tokenizer())
    assert max(score_in_threads(lambda rows: read_rewards(scorer, rows), SEQUENCES, 160)) < 1e-4


@pytest.mark.parametrize(
    "load", [URMForRewardModeling.from_pretrained, AutoModelForSequenceClassification.from_pretrained, RewardScorer]
)
def test_models_are_loaded_one_at_a_time(tmp_path, monkeypatch, load):
    """transformers replaces functions of the whole process while it loads, and loads that overlap leave them so."""
    name, loading, overlaps = save_with_tokenizer(tiny_urm(), tmp_path), threading.Lock(), []
    usual = PreTrainedModel.from_pretrained.__func__

    def watched(cls, *args, **kwargs):
        alone = loading.acquire(blocking=False)
        overlaps.append(not alone)
        time.sleep(0.02)  # in which the others would come in
        try:
            return usual(cls, *args, **kwargs)
        finally:
            if alone:
                loading.release()

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(watched))
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(load, [name] * 8))
    assert overlaps == [False] * 8


def test_a_sequential_ensemble_has_one_member_in_memory_whatever_threads_ask(tmp_path):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    ensemble = URMEnsemble.from_pretrained(folders, strategy="sequential")
    held, most = set(), []

    def go(_):
        for member in ensemble.iter_members():
            held.add(id(member))
            most.append(len(held))
            time.sleep(0.02)
            held.discard(id(member))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(go, range(THREADS)))
    assert most == [1] * 2 * THREADS


def test_adapters_that_are_switched_take_turns(tmp_path):
    base = save_with_tokenizer(tiny_urm(), tmp_path / "base")
    folders = [save_adapter(tiny_urm(), tmp_path / f"adapter{seed}", seed) for seed in (1, 2)]
    for folder in folders:
        edit(folder, base_model_name_or_path=base)
    ensemble = URMEnsemble.from_pretrained(list(map(str, folders)), strategy="shared")
    scorer = RewardScorer(ensemble, tiny_tokenizer())
    turn = random.Random(0)

    def score(rows):
        if turn.random() < 0.5:
            return read_rewards(scorer, rows)
        return [reward_directly(ensemble, row) for row in rows]

    assert max(score_in_threads(score, SEQUENCES, 160)) < 1e-4


def test_statistics_of_a_call_are_its_own():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: scorer.score_ids(SEQUENCES), range(12)))
    assert scorer.stats["conversations"] == len(SEQUENCES)
    assert scorer.stats["tokens"] == sum(map(len, SEQUENCES))


def test_memory_that_runs_out_in_threads_costs_no_reward(monkeypatch):
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), max_tokens_per_batch=4096)
    expected = read_rewards(scorer, SEQUENCES)
    usual = type(scorer.model.model).forward

    def limited(self, input_ids=None, **kwargs):
        if input_ids is not None and input_ids.numel() > 256:
            raise RuntimeError("[enforce fail] not enough memory: you tried to allocate")
        return usual(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(scorer.model.model), "forward", limited)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: read_rewards(scorer, SEQUENCES), range(4)))
    assert found == [pytest.approx(expected, abs=1e-4)] * 4
    assert scorer.max_tokens_per_batch <= 256


def test_a_scored_model_is_as_it_was(tmp_path):
    model = tiny_urm()
    model.save_pretrained(tmp_path / "before")
    before = model.model.config._attn_implementation
    read_rewards(RewardScorer(model, tiny_tokenizer()), SEQUENCES)
    model.save_pretrained(tmp_path / "after")
    assert model.model.config._attn_implementation == before
    assert (tmp_path / "after/config.json").read_text() == (tmp_path / "before/config.json").read_text()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert reward_directly(copied, SEQUENCES[0]) == reward_directly(model, SEQUENCES[0])


def test_training_after_scoring_gives_the_gradients_of_a_fresh_model():
    fresh, scored = tiny_urm(), tiny_urm()
    read_rewards(RewardScorer(scored, tiny_tokenizer()), SEQUENCES)
    for model in (fresh, scored):
        model.train()
        model(input_ids=torch.tensor(random_rows([12, 12])), attention_mask=torch.ones(2, 12)).logits.sum().backward()
    for ours, theirs in zip(scored.parameters(), fresh.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert torch.equal(ours.grad, theirs.grad)


def test_graphs_of_others_keep_attention_in_one_piece():
    model = tiny_urm()
    read_rewards(RewardScorer(model, tiny_tokenizer()), SEQUENCES)
    inputs = {"input_ids": torch.tensor(random_rows([12])), "attention_mask": torch.ones(1, 12, dtype=torch.long)}
    compiled = torch.compile(model.model, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected = model.model(**inputs, use_cache=False).last_hidden_state
        torch.testing.assert_close(compiled(**inputs, use_cache=False).last_hidden_state, expected)


def test_layers_that_their_owner_compiled_are_scored_without_packs_not_wrongly():
    expected = read_rewards(RewardScorer(tiny_urm(), tiny_tokenizer()), SEQUENCES[:12])
    model = tiny_urm()
    for layer in model.model.layers:
        layer.compile(backend="eager", dynamic=True)
    assert read_rewards(RewardScorer(model, tiny_tokenizer()), SEQUENCES[:12]) == pytest.approx(expected, abs=1e-4)


def test_eager_attention_is_no_interfaces_and_goes_in_padded_batches():
    expected = read_rewards(RewardScorer(tiny_urm(), tiny_tokenizer()), SEQUENCES)
    model = tiny_urm()
    scorer = RewardScorer(model, tiny_tokenizer())
    read_rewards(scorer, SEQUENCES)
    model.model.config._attn_implementation = "eager"  # also after packs of it have run
    assert read_rewards(scorer, SEQUENCES) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(NotPackable, match="eager"):
        install_attention(model.model)
