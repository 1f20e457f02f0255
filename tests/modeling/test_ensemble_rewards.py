"""How members' rewards become one: aggregation, standardisation, and where an ensemble's folder says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.helpers.tiny import pad_rows, random_rows, save_members, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close, close
from urm_hf import RewardScorer
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig
from urm_hf.modeling.distributions_urm import aggregate_rewards
from urm_hf.scoring import standardize_rewards

BATCH = pad_rows(random_rows([5, 12, 3, 8, 9, 10]))
TEXTS = ["a few words", "others", "and more of them", "the last"]


def in_memory(**config) -> URMEnsemble:
    return URMEnsemble(URMEnsembleConfig(members=["a", "b", "c"], **config), [tiny_urm(seed=s) for s in range(3)])


@torch.no_grad()
def outputs(ensemble: URMEnsemble):
    return ensemble(**BATCH)


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(3)])


@pytest.mark.parametrize("k", [0.5, 2.0])
def test_aggregations_are_what_numpy_computes(k):
    rewards = outputs(in_memory()).rewards
    members = rewards.double().numpy()
    expected = {
        "mean": members.mean(0),
        "min": members.min(0),
        "mean_minus_k_std": members.mean(0) - k * members.std(0),
    }
    for how, values in expected.items():
        found = outputs(in_memory(aggregation=how, aggregation_k=k))
        assert_close(found.logits[:, 0].numpy(), values)
        assert_close(found.rewards, rewards)


def test_an_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match="`how` must be mean, min or mean_minus_k_std, got 'median'"):
        aggregate_rewards(torch.zeros(2, 3), "median")


@pytest.mark.parametrize(
    "config, message",
    [
        ({"aggregation": "median"}, "`aggregation` must be one of mean, min, mean_minus_k_std, got 'median'"),
        ({"strategy": "lazy"}, "`strategy` must be one of resident, sequential, shared, got 'lazy'"),
        ({"aggregation_k": -1}, "`aggregation_k` must not be negative, got -1"),
        ({"reward_means": [0.0, 1.0], "reward_stds": [1.0, 1.0]}, "`reward_means` needs one entry for each of the 3"),
        ({"reward_means": [0.0] * 3}, "`reward_means` and positive `reward_stds` go together"),
        ({"reward_means": [0.0] * 3, "reward_stds": [1.0, 0.0, 1.0]}, "positive `reward_stds`"),
    ],
)
def test_bad_settings_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        URMEnsembleConfig(members=["a", "b", "c"], **config)


def test_standardised_rewards_have_mean_0_and_std_1_on_the_reference():
    ensemble = in_memory()
    raw = outputs(ensemble)
    ensemble.standardize(raw.rewards)
    found = outputs(ensemble)
    members = raw.rewards.double().numpy()
    scale = members.std(1, ddof=1)[:, None]
    expected = (members - members.mean(1)[:, None]) / scale
    assert_close(found.rewards.numpy(), expected)
    assert_close(found.reward_gap.numpy(), np.ptp(expected, axis=0))
    assert_close(found.logits[:, 0].numpy(), expected.mean(0))
    aleatoric = np.stack([tiny_urm(seed=s)(**BATCH).reward_std.detach().numpy() for s in range(3)]) / scale
    variance = (aleatoric**2).mean(0) + expected.var(0)
    assert_close(found.reward_std.numpy(), np.sqrt(variance))
    for name in ("attribute_means", "attribute_stds", "covariance_norm", "gating_weights"):
        assert_close(found[name], raw[name])


def test_standardising_by_conversations_is_standardising_by_their_rewards(members, tmp_path):
    ensemble = URMEnsemble.from_pretrained(members)
    raw = np.array([score.member_rewards for score in RewardScorer(ensemble).score(TEXTS)])
    standardize_rewards(ensemble, TEXTS)
    assert ensemble.config.reward_means == close(raw.mean(0))
    assert ensemble.config.reward_stds == close(raw.std(0, ddof=1))
    standardize_rewards(ensemble, TEXTS)  # from raw rewards again, not from standardised ones
    assert ensemble.config.reward_means == close(raw.mean(0))
    ensemble.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert_close(outputs(loaded).rewards, outputs(ensemble).rewards)


def test_standardising_needs_a_spread():
    ensemble = in_memory()
    with pytest.raises(ValueError, match="`rewards` needs two or more conversations"):
        ensemble.standardize(torch.ones(3, 1))
    with pytest.raises(ValueError, match="Member b gives all reference conversations the same reward"):
        ensemble.standardize(torch.tensor([[0.0, 1.0], [2.0, 2.0], [0.0, 1.0]]))


def test_the_former_name_warns_and_says_where_conversations_go():
    ensemble, rewards = in_memory(), torch.arange(6.0).reshape(3, 2)
    with pytest.warns(DeprecationWarning, match="is now URMEnsemble.standardize"):
        ensemble.standardise(rewards)
    assert ensemble.config.reward_means == [0.5, 2.5, 4.5]
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match="urm_hf.scoring.standardize_rewards"):
        ensemble.standardise(TEXTS, tiny_tokenizer(), progress=True)


def test_a_failed_standardisation_changes_nothing():
    ensemble = in_memory(reward_means=[0.0, 1.0, 2.0], reward_stds=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="same reward"):
        ensemble.standardize(torch.ones(3, 4))
    assert ensemble.config.reward_means == [0.0, 1.0, 2.0] and ensemble.config.reward_stds == [1.0, 1.0, 1.0]


# the folder


def test_members_are_found_through_a_link_to_the_ensembles_folder(members, tmp_path):
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    names = [shutil.copytree(name, tree / Path(name).name) for name in members]
    URMEnsemble.from_pretrained([str(name) for name in names]).save_pretrained(tree / "ensemble")
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(tree / "ensemble")
    expected = outputs(URMEnsemble.from_pretrained(members)).rewards
    assert_close(outputs(AutoModel.from_pretrained(elsewhere / "link")).rewards, expected)


def test_members_beside_the_ensemble_move_with_it(members, tmp_path):
    tree = tmp_path / "tree"
    for name in members:
        shutil.copytree(name, tree / Path(name).name)
    inside, beside = tree, tree / "ensemble"
    names = [str(tree / Path(name).name) for name in members]
    expected = outputs(URMEnsemble.from_pretrained(names))
    for folder in (inside, beside):
        URMEnsemble.from_pretrained(names).save_pretrained(folder)
    tree.rename(tmp_path / "moved")
    for folder in (tmp_path / "moved", tmp_path / "moved" / "ensemble"):
        assert str(tmp_path) not in (folder / "config.json").read_text()
        assert_close(outputs(AutoModel.from_pretrained(folder)).rewards, expected.rewards)


def test_members_far_away_are_named_by_their_whole_path(members, tmp_path):
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "far" / "away")
    assert json.loads((tmp_path / "far" / "away" / "config.json").read_text())["members"] == members


def test_the_folder_holds_the_members_tokenizer(members, tmp_path):
    ensemble = URMEnsemble.from_pretrained(members)
    ensemble.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tiny_tokenizer().get_vocab()
    assert loaded.chat_template == tiny_tokenizer().chat_template
    assert ensemble.config.members == members


def test_an_ensemble_of_local_folders_is_not_pushed(members):
    with pytest.raises(ValueError, match="local folders. Push them first"):
        URMEnsemble.from_pretrained(members).push_to_hub("org/urme")
    with pytest.raises(ValueError, match="push_to_hub"):
        URMEnsemble.from_pretrained(members).save_pretrained("unused", push_to_hub=True)
