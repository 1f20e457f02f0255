"""The card that a push writes, and one that somebody edited."""

import pytest
from huggingface_hub import ModelCard

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
