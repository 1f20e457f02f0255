"""Keys and values that are kept from call to call change no score, save what they stand for, and keep to bounds."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.helpers.tiny import random_rows, save_members, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.scoring.engine.prefix_memory import may_remember
from urm_hf.scoring.engine.prefixes import as_bytes

PROMPTS = random_rows([200, 150, 300], seed=3)


def rounds() -> list[list[list[int]]]:
    """Answers to prompts that recur, one of them shorter than what is remembered, one that was scored before."""
    calls = []
    for step in range(5):
        answers = random_rows([5 + 7 * step, 30, 1, 80], seed=step + 10)
        calls.append([PROMPTS[(place + step) % 3] + answer for place, answer in enumerate(answers)])
    return [*calls, [PROMPTS[0][:120] + [7, 8, 9], PROMPTS[2]], [PROMPTS[1] + [5]], [PROMPTS[1] + [5]]]


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.reward == close(other.reward) and one.reward_std == close(other.reward_std)
        assert one.attribute_means == close(other.attribute_means)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2"])
def test_scores_are_those_without_memory_and_cost_less(family):
    model = tiny_urm(family)
    plain = RewardScorer(model, tiny_tokenizer())
    remembering = RewardScorer(model, tiny_tokenizer(), prefix_memory=10**7)
    computed = {"plain": 0, "remembering": 0}
    for rows in rounds():
        assert_same(remembering.score_ids(rows), plain.score_ids(rows))
        computed["plain"] += plain.stats["computed_tokens"]
        computed["remembering"] += remembering.stats["computed_tokens"]
    assert computed["remembering"] < 0.4 * computed["plain"]
    # the last call was all remembered, but for the token whose state is asked for
    assert remembering.stats["computed_tokens"] == 1


def test_an_answer_that_comes_alone_costs_only_itself():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), prefix_memory=10**7)
    costs = []
    for answer in random_rows([20, 30, 40]):
        scorer.score_ids([PROMPTS[2] + answer])
        costs.append(scorer.stats["computed_tokens"])
    assert costs[0] == 320 and costs[1:] == [30, 40]


def test_the_bound_holds_and_what_was_kept_longest_ago_makes_room():
    token = 2 * 2 * 32 * 4  # layers, keys and values, size of a head, bytes
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), prefix_memory=650 * token)
    plain = RewardScorer(scorer.model, tiny_tokenizer())
    memory = scorer._pass.memory
    rows = random_rows([200] * 5)
    for row in rows:
        scorer.score_ids([row])
        assert memory.size <= 650 * token
    assert memory.room == 650 and set(memory._entries) == {as_bytes(row) for row in rows[2:]}
    for row in [*rows, rows[2] + [5], random_rows([500])[0], rows[0] + [6]]:  # whatever was overwritten since
        assert_same(scorer.score_ids([row]), plain.score_ids([row]))
    places = sorted((entry.place, entry.place + entry.count) for entry in memory._entries.values())
    assert all(stop <= start for (_, stop), (start, _) in zip(places, places[1:], strict=False))
    assert places[-1][1] <= memory.room


def test_a_prefix_larger_than_the_memory_is_not_kept():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), prefix_memory=100 * 512)
    scorer.score_ids([PROMPTS[0]])
    assert scorer._pass.memory._entries == {} and scorer._pass.memory.size <= 100 * 512


def test_threads_do_not_overwrite_what_others_read():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), prefix_memory=650 * 512)
    rows = [prompt[:150] + answer for prompt in random_rows([200] * 8) for answer in random_rows([20, 30])]
    wanted = RewardScorer(scorer.model, tiny_tokenizer()).score_ids(rows)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: scorer.score_ids([row])[0], rows * 3))
    assert_same(found, wanted * 3)


def test_members_with_weights_of_their_own_remember_nothing(tmp_path):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    assert RewardScorer(folders, prefix_memory=10**6)._pass.memory is None
    with pytest.raises(ValueError, match="`prefix_memory` must not be negative"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), prefix_memory=-1)


def test_a_shared_backbone_remembers_for_all_members():
    models = [tiny_urm(seed=seed) for seed in range(3)]
    for model in models[1:]:
        model.model = models[0].model
    from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig

    ensemble = URMEnsemble(URMEnsembleConfig(members=["a", "b", "c"]), models)
    plain, remembering = (RewardScorer(ensemble, tiny_tokenizer(), prefix_memory=size) for size in (0, 10**7))
    for rows in rounds():
        found, wanted = remembering.score_ids(rows), plain.score_ids(rows)
        assert_same(found, wanted)
        assert [score.reward_gap for score in found] == [close(score.reward_gap) for score in wanted]


def test_what_is_not_finite_is_not_remembered():
    model = tiny_urm()
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = float("nan")
    scorer = RewardScorer(model, tiny_tokenizer(), prefix_memory=10**7)
    with pytest.raises(ValueError, match="reward nan"):
        scorer.score_ids([[7, *PROMPTS[0]]])
    assert scorer._pass.memory._entries == {}


def test_keys_that_depend_on_the_batch_are_not_remembered():
    assert may_remember(tiny_urm().model)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not may_remember(tiny_urm(backbone=tiny_backbone_config(rope_parameters=rope)).model)
