"""Ensembles saved and loaded, also by their own code alone."""

import json
from pathlib import Path

import pytest
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.helpers.ensembles import ROWS, assert_equal_outputs, run
from tests.helpers.programs import run_stranger
from tests.helpers.tiny import WITHOUT_PACKAGE, tiny_urm
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMEnsemble

SHIPPED = [
    "backbone_urm.py",
    "base_urm.py",
    "card_urm.py",
    "checks_urm.py",
    "configuration_urm.py",
    "configuration_urm_ensemble.py",
    "distributions_urm.py",
    "fingerprint_urm.py",
    "head_urm.py",
    "hub_place_urm.py",
    "member_checks_urm.py",
    "member_names_urm.py",
    "members_urm.py",
    "modeling_urm.py",
    "modeling_urm_ensemble.py",
    "output_urm_ensemble.py",
    "tokenizer_urm.py",
]
TOKENIZER = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def folder(ensemble, tmp_path_factory) -> str:
    """The ensemble, saved."""
    path = tmp_path_factory.mktemp("ensemble") / "urme"
    ensemble.save_pretrained(path)
    return str(path)


# Saving and loading


def test_a_list_of_folders_becomes_an_ensemble_in_eval_mode(ensemble, members):
    assert ensemble.config.members == members
    assert not any(module.training for module in ensemble.modules())
    assert ensemble.config.attributes == tiny_urm().config.attributes


@pytest.mark.parametrize("kwargs", [{}, {"num_labels": 1}, {"trust_remote_code": True}, {"revision": None}])
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification, URMEnsemble])
def test_a_saved_ensemble_loads_with_the_same_numbers(folder, output, auto, kwargs):
    loaded = auto.from_pretrained(folder, **kwargs)
    assert type(loaded).__name__ == URMEnsemble.__name__  # transformers 4 takes the checkpoint's code if it may
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
    names = {path.name for path in Path(folder).iterdir()} - {"special_tokens_map.json"}  # of transformers 4
    assert names == {"config.json", *SHIPPED, *TOKENIZER}
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
    run_stranger(SESSION, [folder, ROWS, str(home)], home)
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
        assert_close(session[way][name], expected, msg=name)
