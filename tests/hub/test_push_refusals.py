"""What is refused before anything is uploaded."""

import shutil

import pytest

from tests.helpers.hub_folders import TWO, edit_config
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf.hub.errors import HubError
from urm_hf.hub.publish import push


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def local_path(folder):
    edit_config(folder, quantization_config={"modules_file": "/home/ann/modules.json"})


REFUSED = {
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "no vocabulary": (without("tokenizer.json"), "no tokenizer"),
    "no chat template": (without("chat_template.jinja"), "no chat template"),
    "no weights": (without("model.safetensors"), "no weights"),
    "no config": (without("config.json"), "no config.json"),
    "one code file short": (without("head_urm.py"), "code is missing: head_urm.py"),
    "no code": (without("modeling_urm.py", "head_urm.py"), "code is missing: head_urm.py, modeling_urm.py"),
    "a pickle": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pickled .*: pytorch_model.bin"),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapter_config.json"),
    "a local path": (local_path, "quantization_config.modules_file is /home/ann"),
    "another auto_map": (lambda folder: edit_config(folder, auto_map={}), "auto_map"),
    "another model": (lambda folder: edit_config(folder, model_type="llama"), "'llama'"),
    "a broken config": (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_incomplete_folder_is_refused_by_name_before_any_request(server, folder, name):
    spoil, message = REFUSED[name]
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        push(folder, "org/urm")
    assert server.requests == []


def test_all_that_is_wrong_is_named_at_once(folder):
    without("tokenizer.json", "model.safetensors", "head_urm.py")(folder)
    with pytest.raises(ValueError, match="code is missing.*no weights.*no tokenizer"):
        push(folder, "org/urm")


def test_a_shard_that_the_index_names_must_be_there(server, folder):
    shutil.rmtree(folder)
    tiny_urm(**TWO).save_pretrained(folder, max_shard_size="100KB")
    tiny_tokenizer().save_pretrained(folder)
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(ValueError, match="model-00002"):
        push(folder, "org/urm")


def test_weights_that_are_not_finite_are_not_published(server, folder):
    model = tiny_urm(**TWO)
    model.score.value.weight.data[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="reference conversations.*reward nan"):
        push(folder, "org/urm")
    assert server.requests == []


def test_an_existing_public_repository_is_not_pushed_to_by_mistake(server, folder):
    push(folder, "org/urm", private=False)
    before = server.repositories["org/urm"].branches["main"]
    with pytest.raises(ValueError, match="org/urm exists and is public"):
        push(folder, "org/urm", commit_message="x")
    assert server.repositories["org/urm"].branches["main"] == before


@pytest.mark.parametrize(
    "repo_id", ["urm", "a/b/c", "org/", "org/a b", "/urm", "org/.urm", "org/urm..x", "org/urm.git"]
)
def test_a_name_that_no_repository_can_have_is_refused_before_anything_is_scored(server, folder, repo_id):
    with pytest.raises(ValueError, match="org/name|repo_id|Repo_id"):
        push(folder, repo_id)
    assert server.requests == [] and not (folder / "README.md").exists()


def test_a_missing_token_is_told_before_anything_is_scored(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HubError, match="pushing to org/urm needs a token"):
        push(folder, "org/urm")
    assert not (folder / "README.md").exists()
    assert push(folder, "org/urm", dry_run=True).commit is None  # needs none


def test_a_private_repository_stays_private_and_it_is_said(server, folder):
    push(folder, "org/urm")
    result = push(folder, "org/urm", private=False)
    assert result.private and server.repositories["org/urm"].private
    assert "org/urm existed and stays private: its settings on the Hub can make it public" in result.notes
