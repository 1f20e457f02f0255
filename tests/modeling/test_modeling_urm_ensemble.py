"""The ensemble against brute force over its members, saving and loading it."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.conftest import (
    WITHOUT_PACKAGE,
    pad_rows,
    random_rows,
    save_members,
    tiny_backbone_config,
    tiny_urm,
)
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig, URMEnsembleOutput, URMForRewardModeling

ROWS = random_rows([5, 12, 3, 8])
SEEDS = [0, 1, 2]
FIELDS = {
    "logits": (4, 1),
    "rewards": (3, 4),
    "reward_std": (4,),
    "reward_gap": (4,),
    "covariance_norm": (4,),
    "attribute_gap": (4, 5),
    "attribute_means": (3, 4, 5),
    "attribute_stds": (3, 4, 5),
    "gating_weights": (3, 4, 5),
    "aleatoric_variance": (4, 5),
    "epistemic_variance": (4, 5),
}
SHIPPED = [
    "backbone_urm.py",
    "configuration_urm.py",
    "configuration_urm_ensemble.py",
    "distributions_urm.py",
    "head_urm.py",
    "members_urm.py",
    "modeling_urm.py",
    "modeling_urm_ensemble.py",
    "output_urm_ensemble.py",
]
TOKENIZER = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    """Folders of three URMs that differ in seed."""
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in SEEDS])


@pytest.fixture(scope="module")
def ensemble(members) -> URMEnsemble:
    return URMEnsemble.from_pretrained(members)


@pytest.fixture(scope="module")
def folder(ensemble, tmp_path_factory) -> str:
    """The ensemble, saved."""
    path = tmp_path_factory.mktemp("ensemble") / "urme"
    ensemble.save_pretrained(path)
    return str(path)


@torch.no_grad()
def run(model, rows=ROWS, **kwargs) -> URMEnsembleOutput:
    return model(**pad_rows(rows), **kwargs)


@pytest.fixture(scope="module")
def output(ensemble) -> URMEnsembleOutput:
    return run(ensemble)


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    """What each member gives when it runs by itself, stacked: (M, B, ...), float64."""
    outputs = [run(tiny_urm(seed=seed)) for seed in SEEDS]
    fields = ["logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std"]
    return {field: np.array([output[field].double().numpy() for output in outputs]) for field in fields}


def assert_close(actual: torch.Tensor, expected: np.ndarray):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-4)


def assert_equal_outputs(actual: URMEnsembleOutput, expected: URMEnsembleOutput):
    assert list(actual) == list(expected) == list(FIELDS)
    for name in FIELDS:
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-5, msg=name)


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
    torch.testing.assert_close(values, output.to_tuple())


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


# Saving and loading


def test_a_list_of_folders_becomes_an_ensemble_in_eval_mode(ensemble, members):
    assert ensemble.config.members == members
    assert not any(module.training for module in ensemble.modules())
    assert ensemble.config.attributes == tiny_urm().config.attributes


@pytest.mark.parametrize("kwargs", [{}, {"num_labels": 1}, {"trust_remote_code": True}, {"revision": None}])
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification, URMEnsemble])
def test_a_saved_ensemble_loads_with_the_same_numbers(folder, output, auto, kwargs):
    loaded = auto.from_pretrained(folder, **kwargs)
    assert type(loaded) is URMEnsemble
    assert_equal_outputs(run(loaded), output)


def test_an_ensemble_saved_again_loads_with_the_same_numbers(folder, output, tmp_path):
    URMEnsemble.from_pretrained(folder).save_pretrained(tmp_path)
    assert_equal_outputs(run(AutoModel.from_pretrained(tmp_path)), output)


def test_members_named_relative_to_the_working_directory_are_found_from_another(
    members, output, tmp_path, monkeypatch
):
    monkeypatch.chdir(Path(members[0]).parent)
    URMEnsemble.from_pretrained([Path(member).name for member in members]).save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_equal_outputs(run(AutoModel.from_pretrained(tmp_path)), output)


def test_a_saved_ensemble_is_its_config_and_the_code_it_needs(folder):
    assert sorted(path.name for path in Path(folder).iterdir()) == sorted(["config.json", *SHIPPED, *TOKENIZER])
    config = json.loads((Path(folder) / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_urm_ensemble.URMEnsembleConfig",
        "AutoModel": "modeling_urm_ensemble.URMEnsemble",
        "AutoModelForSequenceClassification": "modeling_urm_ensemble.URMEnsemble",
    }


def test_an_ensemble_is_a_scalar_reward_model_to_generic_tools(folder):
    config = AutoModel.from_pretrained(folder).config
    assert (config.num_labels, config.id2label, config.problem_type) == (1, {0: "reward"}, "regression")
    assert config.pad_token_id == tiny_urm().config.pad_token_id


def test_loading_information_is_returned_on_request(folder):
    loaded, info = URMEnsemble.from_pretrained(folder, output_loading_info=True)
    assert isinstance(loaded, URMEnsemble)
    assert info == {"missing_keys": [], "unexpected_keys": []}


SESSION = (
    WITHOUT_PACKAGE
    + """
import json
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

folder, rows, target = json.load(sys.stdin)
result = {}

def outputs(auto, folder, **kwargs):
    model = auto.from_pretrained(folder, trust_remote_code=True, **kwargs)
    with torch.no_grad():
        outs = [model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))) for row in rows]
    return model, {name: [out[name].tolist() for out in outs] for name in ("logits", "reward_gap", "covariance_norm")}

try:
    AutoModel.from_pretrained(folder)
except ValueError as error:
    result["refusal"] = str(error)
model, result["AutoModel"] = outputs(AutoModel, folder)
_, result["AutoModelForSequenceClassification"] = outputs(AutoModelForSequenceClassification, folder)
_, result["num_labels=1"] = outputs(AutoModelForSequenceClassification, folder, num_labels=1)
result["modules"] = [type(model).__module__, type(model.members[0]).__module__]
model.save_pretrained(target + "/again")
_, result["saved again"] = outputs(AutoModel, target + "/again")
result["imported"] = sorted(name for name in sys.modules if name.split(".")[0] == "urm_hf")
json.dump(result, open(target + "/result.json", "w"))
"""
)


@pytest.fixture(scope="module")
def session(folder, tmp_path_factory) -> dict:
    """What one session without urm_hf, without the network and with caches of its own made of the folder."""
    home = tmp_path_factory.mktemp("home")
    private = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [sys.executable, "-I", "-c", SESSION],
        input=json.dumps([folder, ROWS, str(home)]),
        env=os.environ | private,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads((home / "result.json").read_text())


def test_remote_code_ran_the_folder_s_own_files(session):
    assert session["imported"] == []
    assert all(module.startswith("transformers_modules.") for module in session["modules"])


def test_without_consent_no_code_of_an_ensemble_runs(session):
    assert "trust_remote_code=True" in session["refusal"]


@pytest.mark.parametrize("way", ["AutoModel", "AutoModelForSequenceClassification", "num_labels=1", "saved again"])
def test_remote_code_gives_the_numbers_of_the_package(session, ensemble, way):
    for name in ("logits", "reward_gap", "covariance_norm"):
        expected = [run(ensemble, [row])[name].tolist() for row in ROWS]
        np.testing.assert_allclose(session[way][name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


# What cannot be an ensemble


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_members_are_an_error(members, count):
    with pytest.raises(ValueError, match="at least two models, got"):
        URMEnsemble.from_pretrained(members[:count])


def test_an_ensemble_built_of_one_model_is_an_error():
    with pytest.raises(ValueError, match="at least two members, got 1"):
        URMEnsemble(URMEnsembleConfig(members=["a", "b"]), [tiny_urm()])


@pytest.mark.parametrize("revisions", [[], ["main"], ["main"] * 4])
def test_revisions_need_one_entry_for_each_member(members, revisions):
    with pytest.raises(ValueError, match="`revisions` needs one entry for each of the 3 members"):
        URMEnsemble.from_pretrained(members, revisions=revisions)


def test_revisions_are_kept_and_passed_to_their_members(members, tmp_path, monkeypatch):
    seen, load = [], URMForRewardModeling.from_pretrained.__func__

    def recording(cls, name, *args, revision=None, **kwargs):
        seen.append((name, revision))
        return load(cls, name, *args, **kwargs)

    monkeypatch.setattr(URMForRewardModeling, "from_pretrained", classmethod(recording))
    URMEnsemble.from_pretrained(members, revisions=["v1", None, "v3"]).save_pretrained(tmp_path)
    AutoModel.from_pretrained(tmp_path)
    assert seen == list(zip(members, ["v1", None, "v3"])) * 2


def test_identical_members_are_an_error_that_names_them(members, tmp_path):
    (twin,) = save_members(tmp_path, [tiny_urm(seed=1)])
    with pytest.raises(ValueError, match="Members .*member-1 and .*member-0 have equal heads.*different seeds"):
        URMEnsemble.from_pretrained([members[0], members[1], twin])


ODD_MEMBERS = {
    "attributes": {"attributes": ["helpfulness", "clarity"]},
    "order": {"attributes": ["correctness", "helpfulness", "coherence", "complexity", "verbosity"]},
}


@pytest.mark.parametrize("kwargs", ODD_MEMBERS.values(), ids=ODD_MEMBERS)
def test_members_of_other_attributes_or_another_order_are_an_error_that_shows_both(members, tmp_path, kwargs):
    (odd,) = save_members(tmp_path, [tiny_urm(**kwargs)])
    with pytest.raises(ValueError, match="Members differ in attributes") as error:
        URMEnsemble.from_pretrained([members[0], members[1], odd])
    assert str(kwargs["attributes"]) in str(error.value) and str(tiny_urm().config.attributes) in str(error.value)


def test_members_of_another_vocabulary_are_an_error(members, tmp_path):
    (odd,) = save_members(tmp_path, [tiny_urm(backbone=tiny_backbone_config(vocab_size=300))])
    with pytest.raises(ValueError, match="Members differ in vocab_size: .* has 260, .* has 300"):
        URMEnsemble.from_pretrained([members[0], odd])


def test_a_missing_member_is_an_error_that_names_it(members, tmp_path):
    with pytest.raises(OSError, match="absent"):
        URMEnsemble.from_pretrained([members[0], str(tmp_path / "absent")])


def test_a_member_that_is_no_urm_is_an_error_that_names_it(members, tmp_path):
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="plain"):
        URMEnsemble.from_pretrained([members[0], str(tmp_path / "plain")])


def test_a_single_urm_is_no_ensemble(members):
    with pytest.raises(ValueError, match="at least two models"):
        URMEnsemble.from_pretrained(members[0])


def test_a_member_with_nan_weights_is_an_error_that_names_it(members, tmp_path):
    broken = tiny_urm(seed=5)
    with torch.no_grad():
        broken.score.value.weight.fill_(float("nan"))
    (broken,) = save_members(tmp_path, [broken])
    ensemble = URMEnsemble.from_pretrained([members[0], broken])
    with pytest.raises(ValueError, match=f"Member {broken} gave rewards that are not finite in rows .0, 1, 2, 3."):
        run(ensemble)
