"""Pushes to a Hub that fails half way."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from tests.helpers.hub_folders import TWO, WHOLE
from tests.helpers.hub_repositories import INITIAL, READER, STRANGER
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.hub.errors import HubError
from urm_hf.hub.publish import push

# A Hub that fails


@pytest.mark.parametrize("kind", ["500", "drop"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_upload_that_fails_publishes_nothing_and_says_so(server, folder, kind, at):
    server.fail_upload, server.fail_upload_at = kind, at
    with pytest.raises(HubError, match="Nothing was published: org/urm was created and holds no model"):
        push(folder, "org/urm")
    assert server.files("org/urm") == {}
    assert not any("/commit/" in path for _, path, _ in server.requests)


def test_after_a_failure_the_former_commit_stands_and_a_second_try_succeeds(server, folder, tmp_path):
    before = push(folder, "org/urm").commit
    other = Path(save_with_tokenizer(tiny_urm(seed=1, **TWO), tmp_path / "other"))
    server.fail_commit = 500
    with pytest.raises(HubError, match=f"Nothing was published: org/urm is as before, at commit {before}"):
        push(other, "org/urm")
    assert server.repositories["org/urm"].branches["main"] == before
    server.fail_commit = None
    after = push(other, "org/urm").commit
    assert after != before and set(server.files("org/urm")) == WHOLE


@pytest.mark.parametrize("lost", ["model.safetensors", "head_urm.py"])
def test_a_commit_that_lacks_a_file_is_not_reported_as_done(server, folder, lost):
    server.lose = {lost}
    with pytest.raises(HubError, match=f"is not what was pushed, do not use it: {lost} is missing"):
        push(folder, "org/urm")


def test_a_commit_with_another_content_is_not_reported_as_done(server, folder, monkeypatch):
    honest = type(server).entry
    monkeypatch.setattr(
        type(server),
        "entry",
        lambda self, path, content: honest(self, path, content[::-1] if path[-2:] == "py" else content),
    )
    with pytest.raises(HubError, match="head_urm.py has another content"):
        push(folder, "org/urm")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READER, "refused access"),
        (STRANGER, "refused access"),
        ("hf_unknown", "Invalid credentials"),
        (None, "needs a token"),
    ],
)
def test_a_token_without_the_right_is_told_in_one_line(server, folder, monkeypatch, capfd, token, message):
    monkeypatch.setenv("HF_TOKEN", token or "")
    assert main(["push", str(folder), "org/urm"]) == 2
    printed = capfd.readouterr().err.splitlines()[-1]
    assert printed.startswith("urm push: error: pushing to org/urm") and message in printed
    assert server.repositories == {}


def test_a_hub_that_cannot_be_reached(server, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="pushing to org/urm failed before anything was uploaded"):
        push(folder, "org/urm")


# The server itself, where tests lean on it


def test_the_server_refuses_what_the_hub_refuses(server, folder):
    api = HfApi()
    push(folder, "org/urm")
    assert server.files("org/urm").keys().isdisjoint(INITIAL)
    listed = [entry.path for entry in api.list_repo_tree("org/urm", recursive=True)]  # over several pages
    assert sorted(listed) == sorted([*WHOLE, *INITIAL]) and len(listed) > server.page
    save_file({"a": torch.zeros(1)}, folder / "x.safetensors")
    with pytest.raises(Exception, match="412|commit has happened"):
        api.upload_file(
            path_or_fileobj=folder / "x.safetensors", path_in_repo="x", repo_id="org/urm", parent_commit="0" * 40
        )
