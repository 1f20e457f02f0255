"""`RemoteScorer` before a server that is none of ours, or is out of order: one sentence, and never a wrong reward."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from urm_hf import RemoteScorer
from urm_hf.data.errors import RowError
from urm_hf.scoring import remote
from urm_hf.scoring.remote import ServerError

MODEL = {
    "id": "m",
    "attributes": None,
    "kind": "scalar",
    "max_length": 10,
    "fingerprint": "f",
    "max_rows": 10,
    "max_body": 10_000,
}


@contextmanager
def answering(models: Any, rewards: Any = None, status: int = 200, **headers: str) -> Iterator[str]:
    """The URL of a server that answers with these values, whatever it is asked; `status` is that of rewards."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self.write(200, {"data": models})

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.write(status, rewards)

        def write(self, status: int, answer: Any):
            body = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "models",
    [None, [], ["x"], [MODEL, MODEL], [{"id": "x", "owned_by": "vllm"}], [MODEL | {"max_rows": None}], math.nan],
    ids=str,
)
def test_a_server_of_something_else_is_told(models):
    with answering(models) as url, pytest.raises(ServerError, match="is it `urm serve`"):
        RemoteScorer(url)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"a": 1}, "no list of scores"),
        ("x", "no list of scores"),
        ([], "0 scores for 1"),
        ([None], "no finite reward for row 0"),
        ([{}], "no finite reward for row 0"),
        ([{"reward": None}], "no finite reward for row 0"),
        ([{"reward": "1"}], "no finite reward for row 0"),
        ([{"reward": True}], "no finite reward for row 0"),
        ([{"reward": math.nan}], "no finite reward for row 0"),
        ([{"index": 3, "reward": 1.0}], "the score of row 3 in place of row 0"),
        ([{"reward": 1.0, "beauty": 2.0}], "fields that this version does not know.*beauty"),
    ],
)
def test_what_is_no_score_never_becomes_a_reward(data, told):
    with answering([MODEL], {"data": data}) as url:
        scorer = RemoteScorer(url)
        for score in (scorer.score, scorer.score_usable):
            with pytest.raises(ServerError, match=told):
                score(["a"])


def test_rows_of_each_request_are_counted_from_its_first(monkeypatch):
    monkeypatch.setattr(remote, "ROWS_AT_ONCE", 1)
    with answering([MODEL], {"data": [{"index": 0, "reward": 1.0}]}) as url:
        scorer = RemoteScorer(url)
        scorer._max_rows = 1
        assert [score.reward for score in scorer.score(["a", "b"])] == [1.0, 1.0]
        assert [score["reward"] for score in scorer.score_usable(["a", "b"])] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "row 0: bad", "row": 0}, RowError),
        ({"message": "row 0: bad", "row": "z"}, ServerError),
        ({"message": "row 0: bad", "row": 0, "rows": "z"}, RowError),
        ({"message": ["row 0: bad"], "row": None}, ServerError),
        ("row 0: bad", ServerError),
    ],
    ids=str,
)
def test_errors_of_any_form_are_read(error, kind):
    with answering([MODEL], {"error": error}, status=422) as url, pytest.raises(kind) as told:
        RemoteScorer(url).score(["a"])
    assert "bad" in str(told.value) or "is it `urm serve`" in str(told.value)


@pytest.mark.parametrize("again", ["²", "-1", "soon", "0"])
def test_any_time_to_come_again_is_read(monkeypatch, again):
    monkeypatch.setattr(remote, "LONGEST_PAUSE", 0.01)
    answer = {"error": {"message": "busy", "row": None}}
    with answering([MODEL], answer, status=503, Retry_After=again) as url, pytest.raises(ServerError, match="busy"):
        RemoteScorer(url).score(["a"])


@pytest.mark.parametrize("url", [5, None, "http://[::1", "http://127.0.0.1:x", "http://127.0.0.1:99999"])
def test_what_cannot_be_read_as_a_url_is_refused(url):
    with pytest.raises(ValueError, match="`url` must be like"):
        RemoteScorer(url)


@pytest.mark.parametrize("token", ["s3cret\n", "s3 cret", "s3crét"])
def test_a_token_that_no_header_carries_is_refused_and_not_repeated(token):
    with pytest.raises(ValueError, match="`token` must be printable ASCII") as told:
        RemoteScorer("http://127.0.0.1:9", token)
    assert "s3" not in str(told.value)


def test_a_token_in_a_url_may_be_escaped():
    with answering([MODEL]) as url:
        scorer = RemoteScorer(url.replace("http://", "http://any:a%2Fb%40c@"))
    assert scorer._session.auth.token == "a/b@c"


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan])
def test_a_timeout_is_positive(timeout):
    with pytest.raises(ValueError, match="`timeout` must be positive"):
        RemoteScorer("http://127.0.0.1:9", timeout=timeout)
