"""`urm push`, and errors of the client as people read them."""

from types import SimpleNamespace

import pytest
from huggingface_hub import snapshot_download

from tests.helpers.hub_folders import WHOLE
from tests.helpers.hub_repositories import WRITER
from urm_hf.cli import main
from urm_hf.hub.errors import one_line

# The command


def test_the_command_prints_where_the_model_is_and_never_the_token(server, folder, capfd):
    assert main(["push", str(folder), "org/urm", "--license", "apache-2.0", "--tag", "v1"]) == 0
    out, err = capfd.readouterr()
    commit = server.repositories["org/urm"].branches["main"]
    assert f"{len(WHOLE)} files are on the Hub (private): {server.url}/org/urm" in out
    assert f"commit {commit}, tag v1" in out and f'revision="{commit}"' in out
    assert server.authorizations == {WRITER} and WRITER not in out + err
    assert WRITER.encode() not in b"".join(server.files("org/urm").values())


def test_a_failing_command_prints_one_line_and_never_the_token(server, folder, capfd):
    server.fail_upload = "500"
    assert main(["push", str(folder), "org/urm"]) == 2
    out, err = capfd.readouterr()
    assert WRITER not in out + err and "Traceback" not in err
    assert "Nothing was published" in err.splitlines()[-1]


def test_a_dry_run_of_the_command_lists_the_files(server, folder, capfd):
    (folder / "notes.txt").write_text("x")
    assert main(["push", str(folder), "org/urm", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "not uploaded: notes.txt" in out and f"{len(WHOLE)} files would be uploaded" in out
    assert server.requests == []


# Errors of the client, as people read them


@pytest.mark.parametrize("name", ["nothing", "org/nothing"])
def test_the_repository_that_is_not_there_is_named(server, monkeypatch, name):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(OSError) as error:
        snapshot_download(name)
    assert one_line(error.value).startswith(f"{name} does not exist, or is private: check its name")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/org/urm.git/info/lfs/objects/batch", "org/urm"),
        ("/org/urm/resolve/main/config.json", "org/urm"),
        ("/api/models/org/urm", "org/urm"),
        ("/api/datasets/org/rows/revision/v1", "datasets/org/rows"),
        ("/datasets/org/rows/resolve/v1/a.csv", "datasets/org/rows"),
        ("/api/models/gpt2/tree/main", "gpt2"),
    ],
)
def test_the_repository_is_read_from_the_address(path, named):
    answer = SimpleNamespace(url=f"https://huggingface.co{path}?expand=1")
    error = type("RepositoryNotFoundError", (OSError,), {"response": answer})("404")
    assert one_line(error).startswith(f"{named} does not exist")


def test_an_error_of_several_lines_becomes_one():
    told = one_line(OSError("We couldn't connect.\n  Check your\nconnection."))
    assert told == "We couldn't connect. Check your connection."
