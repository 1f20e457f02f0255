"""The card that a push writes, and one that somebody edited."""

import json

import pytest
from huggingface_hub import ModelCard

from tests.helpers.hub_folders import TWO
from tests.helpers.tiny import tiny_urm
from urm_hf.hub.card.results import Result
from urm_hf.hub.publish import push
from urm_hf.modeling.card_urm import CARD_MARKER


def test_a_card_that_was_edited_by_hand_is_kept(server, folder):
    push(folder, "org/urm")
    edited = (folder / "README.md").read_text().replace(CARD_MARKER, "") + "\nMy words.\n"
    (folder / "README.md").write_text(edited)
    result = push(folder, "org/urm")
    assert server.files("org/urm")["README.md"].decode() == edited
    assert "README.md was edited by hand and is kept" in result.notes
    with pytest.raises(ValueError, match="license: .* edited by hand"):
        push(folder, "org/urm", license="mit")
    push(folder, "org/urm", license="mit", overwrite_card=True)
    assert ModelCard(server.files("org/urm")["README.md"].decode()).data.license == "mit"


def test_a_generated_card_is_written_anew(server, folder):
    push(folder, "org/urm", license="mit")
    push(folder, "org/urm", license="apache-2.0")
    assert ModelCard(server.files("org/urm")["README.md"].decode()).data.license == "apache-2.0"


def test_licence_and_datasets_of_an_earlier_push_are_kept_unless_a_new_card_is_asked_for(server, folder):
    push(folder, "org/urm", license="mit", datasets=["org/ratings"])
    result = push(folder, "org/urm", license="apache-2.0")
    data = ModelCard(server.files("org/urm")["README.md"].decode()).data
    assert (data.license, data.datasets) == ("apache-2.0", ["org/ratings"])
    assert not any("licence" in note for note in result.notes)
    result = push(folder, "org/urm", overwrite_card=True)
    data = ModelCard(server.files("org/urm")["README.md"].decode()).data
    assert (data.license, data.datasets) == (None, None) and any("names no licence" in note for note in result.notes)


def test_a_form_with_blanks_is_no_card(server, folder):
    (folder / "README.md").write_text("# Model Card\n\n[More Information Needed]\n")
    with pytest.raises(ValueError, match="README.md is a form with blanks"):
        push(folder, "org/urm")
    assert server.requests == []
    push(folder, "org/urm", overwrite_card=True)
    assert "More Information" not in server.files("org/urm")["README.md"].decode()


def test_results_that_cannot_be_read_are_an_error(folder, tmp_path):
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(ValueError, match="empty.json has no results"):
        push(folder, "org/urm", results=tmp_path / "empty.json", dry_run=True)
    with pytest.raises(FileNotFoundError, match="absent.json: there is no such file or folder of results"):
        push(folder, "org/urm", results=tmp_path / "absent.json", dry_run=True)


# Results

MEASURED = [Result("pairs", "accuracy", 0.71, interval=(0.6, 0.8), n=300)]


def accuracies(server) -> dict[str, float]:
    """By what they were measured on."""
    results = ModelCard(server.files("org/urm")["README.md"].decode()).data.eval_results or []
    return {result.dataset_name: result.metric_value for result in results}


def test_no_result_is_named_after_the_dataset_of_training(server, folder):
    push(folder, "org/urm", datasets=["org/ratings"], results=MEASURED)
    assert accuracies(server) == {"held-out preference pairs": 0.71}
    assert ModelCard(server.files("org/urm")["README.md"].decode()).data.datasets == ["org/ratings"]


def test_results_of_an_earlier_push_stay_in_the_card(server, folder):
    (folder / "all_results.json").write_text(json.dumps({"eval_pearson": 0.99, "eval_samples": 5}))
    result = push(folder, "org/urm", results=MEASURED)
    assert not any("earlier push" in note for note in result.notes)
    first = server.files("org/urm")["README.md"]
    result = push(folder, "org/urm")
    assert server.files("org/urm")["README.md"] == first
    assert "the card shows the results of an earlier push: `--results` names others" in result.notes
    assert "urm_card_results.json" not in [*result.files, *result.left_out]
    push(folder, "org/urm", overwrite_card=True)
    assert accuracies(server) == {"held-out rated conversations": 0.99}


def test_results_of_other_weights_are_left_out_with_a_word(server, folder):
    push(folder, "org/urm", results=MEASURED)
    tiny_urm(seed=7, **TWO).save_pretrained(folder)
    result = push(folder, "org/urm")
    assert accuracies(server) == {}
    assert any(note.startswith("the model is another one than at the earlier push") for note in result.notes)


def test_what_a_trainer_measured_is_not_kept_over_what_is_measured_later(server, folder):
    push(folder, "org/urm", results=[Result("ratings", "pearson", 0.99, split="validation")])
    (folder / "results.json").write_text(json.dumps({"attributes": {"pearson": 0.3}}))
    push(folder, "org/urm")
    assert accuracies(server) == {"held-out rated conversations": 0.3}


def test_kept_results_that_are_damaged_are_told(server, folder):
    push(folder, "org/urm", results=MEASURED)
    kept = folder / "urm_card_results.json"
    kept.write_text(kept.read_text().replace('"accuracy"', '"acc"'))
    with pytest.raises(ValueError, match="urm_card_results.json is damaged: no metric is called 'acc'"):
        push(folder, "org/urm")
