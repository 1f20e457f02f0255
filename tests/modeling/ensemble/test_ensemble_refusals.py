"""What cannot be an ensemble."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from tests.helpers.ensembles import run
from tests.helpers.tiny import save_members, tiny_backbone_config, tiny_urm
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig, URMForRewardModeling


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


def test_random_weights_are_nothing_that_an_ensemble_has(members):
    config = URMEnsembleConfig(members=list(members))
    with pytest.raises(ValueError, match="An ensemble has no weights of its own to draw"):
        AutoModel.from_config(config)
