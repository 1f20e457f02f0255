"""Who is answered: tokens, hosts, and what never stands in a log."""

import logging

import pytest

from tests.helpers.chats import ROWS
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer
from urm_hf.serving.access import check_host, is_loopback, read_shown, read_token

TOKEN = "s3cret-t0ken"
GUARDED = ["/v1/rewards", "/v1/preferences", "/get_reward", "/reward", "/classify", "/v1/classify", "/v1/embeddings"]


@pytest.fixture(scope="module")
def guarded():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), token=TOKEN) as server:
        yield server


@pytest.mark.parametrize("path", [*GUARDED, "/verify"])
@pytest.mark.parametrize(
    "shown", [None, "Bearer wrong", "Bearer", "Bearer s3cret-t0ke", "Digest s3cret-t0ken", "Bearer é"]
)
def test_no_route_answers_without_the_token(guarded, path, shown):
    headers = {} if shown is None else {"Authorization": shown.encode("latin-1")}
    answer = guarded.post(path, {"conversations": ROWS}, headers=headers)
    assert answer.status_code == 401 and "token" in answer.json()["error"]["message"]
    assert TOKEN not in answer.text and "Basic" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_what_tells_of_the_model_needs_the_token_too(guarded, path):
    assert guarded.get(path).status_code == 401
    assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_no_token(guarded, path):
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_there_are_no_pages_for_everybody(guarded, path):
    assert guarded.get(path).status_code == 404


def test_the_token_is_taken_as_bearer_or_as_a_password(guarded):
    body = {"conversations": ROWS}
    assert guarded.post("/v1/rewards", body, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert guarded.post("/v1/rewards", body, auth=("any", TOKEN)).status_code == 200
    assert guarded.post("/v1/rewards", body, auth=(TOKEN, "")).status_code == 401


@pytest.mark.parametrize(
    ("header", "shown"),
    [("", b""), ("Bearer a b", b"a b"), ("Basic YTpiOmM=", b"b:c"), ("Basic !", b""), ("Basic YQ==", b""), ("x", b"")],
)
def test_headers_are_read(header, shown):
    assert read_shown(header) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_token(host):
    assert is_loopback(host)
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "example.org", "localhost.example.org"])
def test_other_machines_need_one(host):
    with pytest.raises(ValueError, match="URM_SERVE_TOKEN or --token-file"):
        check_host(host, None)
    check_host(host, TOKEN)
    check_host(host, None, no_auth=True)


def test_the_token_comes_from_a_file_or_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("URM_SERVE_TOKEN", raising=False)
    assert read_token() is None
    monkeypatch.setenv("URM_SERVE_TOKEN", "from-environment")
    assert read_token() == "from-environment"
    (tmp_path / "token").write_text("  from-file\n")
    assert read_token(tmp_path / "token") == "from-file"
    for wrong in ("", " \n", "two words", "ümlaut"):
        (tmp_path / "token").write_text(wrong)
        with pytest.raises(ValueError, match="printable ASCII") as told:
            read_token(tmp_path / "token")
        assert "words" not in str(told.value)


def test_no_log_repeats_a_token_or_a_body(guarded, caplog, capfd, monkeypatch):
    caplog.set_level(logging.DEBUG)
    good = {"Authorization": f"Bearer {TOKEN}"}
    secret = "the-text-of-a-user"
    guarded.post("/v1/rewards", {"conversations": [secret]}, headers=good)
    guarded.post("/v1/rewards", {"conversations": [secret]}, headers={"Authorization": "Bearer guessed-token"})
    guarded.post("/v1/rewards", data=f'{{"conversations": ["{secret}"'.encode(), headers=good)
    guarded.post("/v1/rewards", {"conversations": [{"prompt": secret, "response": ""}]}, headers=good)

    def fail(*arguments):
        raise RuntimeError(f"broke at {secret}")

    monkeypatch.setattr(guarded.service.scorer, "score_ids", fail)
    answer = guarded.post("/v1/rewards", {"conversations": [secret + "!"]}, headers=good)
    assert answer.status_code == 500 and secret not in answer.text
    monkeypatch.setattr(guarded.service, "score", fail)
    answer = guarded.post("/v1/rewards", {"conversations": [secret]}, headers=good)
    assert answer.status_code == 500 and secret not in answer.text
    logged = caplog.text + "".join(capfd.readouterr())
    ours = "\n".join(line for line in logged.splitlines() if "connectionpool" not in line)  # the client's own
    assert "RuntimeError" in ours
    for word in (TOKEN, "guessed-token", secret):
        assert word not in ours
