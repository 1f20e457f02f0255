"""The ensemble against brute force over its members."""

import itertools

import numpy as np
import pytest
import torch

from tests.helpers.ensembles import FIELDS, ROWS, SEEDS, assert_equal_outputs, run
from tests.helpers.tiny import pad_rows, tiny_urm
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig, URMEnsembleOutput


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    """What each member gives when it runs by itself, stacked: (M, B, ...), float64."""
    outputs = [run(tiny_urm(seed=seed)) for seed in SEEDS]
    fields = ["logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std"]
    return {field: np.array([output[field].double().numpy() for output in outputs]) for field in fields}


# Numbers


def test_the_outputs_have_the_documented_shapes(output):
    assert isinstance(output, URMEnsembleOutput)
    assert {name: tuple(output[name].shape) for name in output} == FIELDS


def test_each_member_s_numbers_are_those_it_gives_alone(output, alone):
    assert_close(output.rewards, alone["logits"][..., 0])
    for name in ("attribute_means", "attribute_stds", "gating_weights"):
        assert_close(output[name], alone[name])


def test_the_reward_is_the_mean_of_the_members_and_float32(output, alone):
    assert output.logits.dtype == torch.float32
    assert_close(output.logits, alone["logits"].mean(0))


def test_the_reward_is_float32_over_bfloat16_backbones(members):
    ensemble = URMEnsemble.from_pretrained(members, dtype=torch.bfloat16)
    assert ensemble.members[0].model.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in run(ensemble).values()} == {torch.float32}


def largest_difference(values: np.ndarray) -> np.ndarray:
    """Over all pairs of members, (M, ...) -> (...)."""
    return np.max([abs(a - b) for a, b in itertools.product(values, repeat=2)], axis=0)


def test_the_reward_gap_is_the_largest_difference_between_members(output, alone):
    assert_close(output.reward_gap, largest_difference(alone["logits"][..., 0]))


def test_the_attribute_gap_is_the_largest_difference_between_members_means(output, alone):
    assert_close(output.attribute_gap, largest_difference(alone["attribute_means"]))


def test_the_covariance_norm_is_the_largest_frobenius_norm(output, alone):
    norms = [[np.linalg.norm(np.diag(std**2), "fro") for std in member] for member in alone["attribute_stds"]]
    assert_close(output.covariance_norm, np.max(norms, axis=0))


def test_aleatoric_variance_is_the_mean_of_variances_and_epistemic_the_population_variance_of_means(output, alone):
    assert_close(output.aleatoric_variance, (alone["attribute_stds"] ** 2).mean(0))
    assert_close(output.epistemic_variance, np.var(alone["attribute_means"], axis=0, ddof=0))


def test_the_reward_s_std_is_the_root_of_its_total_variance(output, alone):
    variance = (alone["reward_std"] ** 2).mean(0) + np.var(alone["logits"][..., 0], axis=0, ddof=0)
    assert_close(output.reward_std, np.sqrt(variance))


def test_total_variance_is_that_of_samples_from_the_mixture_of_members(output):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(200_000, 3, 4, 5, generator=generator) * output.attribute_stds + output.attribute_means
    expected = draws.transpose(1, 0).reshape(-1, 4, 5).var(0)
    torch.testing.assert_close(output.aleatoric_variance + output.epistemic_variance, expected, rtol=0.02, atol=0)


def test_an_ensemble_s_reward_does_not_depend_on_padding_or_company(ensemble, output):
    singles = [run(ensemble, [row]) for row in ROWS]
    with torch.no_grad():
        left = ensemble(**pad_rows(ROWS, side="left", extra=3))
    assert_close(left.logits, output.logits.numpy())
    assert_close(torch.cat([single.reward_gap for single in singles]), output.reward_gap.numpy())


def test_the_tuple_form_holds_the_same_values(ensemble, output):
    values = run(ensemble, return_dict=False)
    assert isinstance(values, tuple)
    assert_close(values, output.to_tuple())


def test_pooled_hidden_states_of_a_shared_backbone_give_the_same_numbers():
    backbone = tiny_urm().model
    shared = []
    for seed in SEEDS:
        member = tiny_urm(seed=seed)
        member.model = backbone
        shared.append(member)
    ensemble = URMEnsemble(URMEnsembleConfig(members=["a", "b", "c"]), shared).eval()
    with torch.no_grad():
        pooled = ensemble(pooled_hidden=shared[0].pool(**pad_rows(ROWS)))
    assert_equal_outputs(pooled, run(ensemble))


def test_an_ensemble_built_of_models_in_memory_knows_their_attributes():
    config = URMEnsembleConfig(members=["a", "b"])
    ensemble = URMEnsemble(config, [tiny_urm(seed=seed, attributes=["clarity", "depth"]) for seed in range(2)])
    assert ensemble.config.attributes == ["clarity", "depth"]
