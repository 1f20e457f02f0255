"""What a client does wrong is told with a status and a sentence, and the server goes on."""

import gzip
import json
import socket
import time
from contextlib import suppress

import pytest
import torch

from tests.helpers.chats import ROWS
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble

ANSWERED = {"role": "assistant", "content": "Because."}


def verified(**fields) -> dict:
    """A request of NeMo Gym with some of its fields."""
    output = fields.pop("output", [ANSWERED])
    return {"responses_create_params": {"input": "Why?"} | fields, "response": {"output": output}}


@pytest.fixture(autouse=True)
def goes_on(urm):
    """Whatever was sent, the next good request is answered."""
    yield
    (entry,) = urm.post("/v1/rewards", {"conversations": ROWS[:1]}).json()["data"]
    assert entry["reward"] == close(urm.scorer.score(ROWS[:1])[0].reward)
    assert urm.get("/health").status_code == 200


def error_of(answer) -> dict:
    body = answer.json()
    assert list(body) == ["error"] and {"message", "row"} <= body["error"].keys()
    return body["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"conversations": [NaN]}',
        b'{"conversations": [' + b"[" * 200_000,
        b'{"conversations": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"conversations": [' + b"9" * 5000 + b"]}",
    ],
    ids=["empty", "cut", "list", "null", "text", "no utf-8", "nan", "deep and cut", "deep", "long number"],
)
def test_what_is_no_json_object_is_400(urm, body):
    answer = urm.post("/v1/rewards", data=body)
    assert answer.status_code == 400 and len(error_of(answer)["message"]) < 200


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([{"role": "user", "content": "Why?"}], "answer"),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], "role"),
        ([{"role": "wizard", "content": "a"}], "wizard"),
        ({"prompt": "Why?", "response": "  "}, "empty"),
        ({"prompt": "Why?"}, "columns"),
        ({"text": "x" * 600}, "600 tokens"),
        ({"input_ids": [3, 260]}, "260"),
        ({"input_ids": [-1]}, "-1"),
        ({"input_ids": [1.5]}, "1.5"),
        ({"input_ids": []}, "empty"),
        ({"text": "\ud800"}, "surrogate"),
        (7, "int"),
        (None, "NoneType"),
    ],
    ids=str,
)
def test_a_row_that_cannot_be_scored_is_422_and_named(urm, row, told):
    body = json.dumps({"conversations": [ROWS[0], row, ROWS[1]]})
    answer = urm.post("/v1/rewards", data=body)
    error = error_of(answer)
    assert answer.status_code == 422 and error["row"] == 1
    assert error["message"].startswith("row 1: ") and told in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/rewards", {}, 422),
        ("/v1/rewards", {"conversations": "x"}, 422),
        ("/v1/rewards", {"conversations": {"prompt": "a", "response": "b"}}, 422),
        ("/v1/rewards", {"conversation": []}, 422),
        ("/v1/rewards", {"conversations": [], "on_error": "ignore"}, 422),
        ("/v1/rewards", {"conversations": [], "unanswered": 1}, 422),
        ("/v1/rewards", {"conversations": [], "model": "another"}, 404),
        ("/get_reward", {}, 422),
        ("/get_reward", {"query": [1]}, 422),
        ("/get_reward", {"query": [""]}, 422),
        ("/get_reward", {"query": ["a", "b"], "prompts": ["a"]}, 422),
        ("/reward", {"prompt": "a"}, 422),
        ("/reward", {"prompt": 1, "response": "a"}, 422),
        ("/reward", {"prompt": [{"role": "user"}], "response": ""}, 422),
        ("/classify", {}, 422),
        ("/classify", {"input": {}}, 422),
        ("/classify", {"input": [[1, "x"]]}, 422),
        ("/classify", {"input": [100_000]}, 422),
        ("/v1/embeddings", {"input": None}, 422),
        ("/verify", {}, 422),
        ("/verify", {"responses_create_params": {}, "response": {}}, 422),
        ("/verify", {"responses_create_params": {"input": "a"}, "response": {"output": ["x"]}}, 422),
    ],
)
def test_a_request_that_lacks_something_is_told_what(urm, path, body, status):
    answer = urm.post(path, body)
    assert answer.status_code == status and error_of(answer)["message"].endswith((".", "it."))


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/rewards", {}, "`conversations` is missing"),
        ("/v1/rewards", {"conversations": None}, "`conversations` must be a list, got NoneType"),
        ("/get_reward", {}, "`query` is missing"),
        ("/get_reward", {"query": ["x", ""]}, "row 0: the text is not in"),
        ("/get_reward", {"query": [""]}, "row 0: it is empty. Fill it in"),
        ("/classify", {"input": [[]]}, "row 0: it is empty. Fill it in"),
        ("/classify", {"input": [1.5]}, "row 0: it must be a text or token ids, got float"),
        (
            "/verify",
            {"response": {}},
            "`responses_create_params` must be an object",
        ),
        ("/verify", {"responses_create_params": {}, "response": 1}, "`response` must be an object"),
        ("/verify", verified(input=["x"]), "`input`[0]: an item of the kind 'str'"),
        ("/verify", verified(output=[ANSWERED, {"type": "web_search_call"}]), "`output`[1]: an item of the kind 'web"),
        ("/verify", verified(output=[{"content": "x"}]), "`output`[0]: a message has no `role`"),
        ("/verify", verified(output=[{"role": "assistant", "content": [{"image": 1}]}]), "`output`[0]: the content"),
        ("/verify", verified(instructions=0), "message 0 (system) has content of the type int"),
    ],
)
def test_the_field_at_fault_is_named(urm, path, body, told):
    answer = urm.post(path, body)
    assert answer.status_code == 422 and told in error_of(answer)["message"]


def test_an_item_may_leave_its_type_open(urm):
    before = {"role": "user", "content": "Why?"}
    answers = [
        urm.post("/verify", verified(input=[before | kind], output=[ANSWERED | kind])).json()["reward"]
        for kind in ({}, {"type": None}, {"type": "message"})
    ]
    (wanted,) = urm.scorer.score([[before, ANSWERED]])
    assert answers == close([wanted.reward] * 3)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/preferences", {"prompt": "p", "a": "a", "b": "b", "confidence": "\ud800"}),
        ("/v1/rewards", {"conversations": [], "\ud800": 1}),
        ("/v1/rewards", {"conversations": [[{"role": "\ud800", "content": "x"}]]}),
        ("/v1/rewards", {"conversations": [{"\ud800": "x"}]}),
    ],
)
def test_half_a_surrogate_pair_is_quoted_as_any_other_text(urm, path, body):
    answer = urm.post(path, data=json.dumps(body))
    assert answer.status_code == 422 and "ud800" in repr(error_of(answer)["message"])


@pytest.mark.parametrize(
    "row",
    [
        [{"role": "x" * 9000, "content": "a"}],
        [{"role": ["x" * 9000], "content": "a"}],
        [{"role": "x" * 9000, "content": 1}],
        [{"role": "user", "content": [{"type": "x" * 9000}]}],
        {"input_ids": [["x" * 9000]]},
        {"conversations": [{"from": "x" * 9000, "value": "a"}]},
    ],
)
def test_an_error_quotes_the_beginning_of_what_is_long(urm, row):
    answer = urm.post("/v1/rewards", {"conversations": [row]})
    assert answer.status_code == 422 and "xxx" in (told := error_of(answer)["message"]) and len(told) < 400


@pytest.mark.parametrize("depth", [*range(940, 1000, 4)])
def test_what_can_just_be_parsed_may_be_too_deep_to_be_written_again(urm, depth):
    """The limit of Python's stack is met at another place for each depth; none of them is a fault of the server."""
    extra = '{"a":' * depth + "1" + "}" * depth
    body = json.dumps(verified() | {"extra": 0}).replace('"extra": 0', f'"extra": {extra}')
    answer = urm.post("/verify", data=body.encode())
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert "nested too deeply" in error_of(answer)["message"]


def test_ids_beyond_the_vocabulary_of_an_ensemble_are_refused(urme):
    # its tokenizer may have more tokens than its members have embeddings
    urme.scorer.tokenizer.add_tokens(["<|new|>"])
    for row in ({"input_ids": [260]}, {"text": "<|new|>"}):
        answer = urme.post("/v1/rewards", {"conversations": [row]})
        assert answer.status_code == 422 and "260" in error_of(answer)["message"]
    assert isinstance(urme.scorer.model, URMEnsemble)


def test_too_many_rows_and_too_many_tokens_are_413():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), max_rows=3, max_queued_tokens=100) as server:
        for path, body in [
            ("/v1/rewards", {"conversations": ROWS}),
            ("/get_reward", {"query": ["x"] * 4}),
            ("/v1/preferences", {"prompt": ["x"] * 2, "a": ["x"] * 2, "b": ["x"] * 2}),
        ]:
            answer = server.post(path, body)
            assert answer.status_code == 413 and "--max-rows" in error_of(answer)["message"]
        answer = server.post("/v1/rewards", {"conversations": ["x" * 101]})
        assert answer.status_code == 413 and "--max-queued-tokens" in error_of(answer)["message"]


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("size", [1500, 5000])
def test_a_body_that_is_too_large_is_413(size, chunked):
    body = json.dumps({"conversations": ["x" * size]}).encode()
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), max_body=1000) as server:
        parts = iter([body[:400], body[400:]]) if chunked else body
        answer = server.post("/v1/rewards", data=parts)
        assert answer.status_code == 413 and "--max-body-mb" in error_of(answer)["message"]


def test_a_body_that_does_not_come_is_408():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), body_seconds=0.2) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert b" 408 " in slow.recv(4096).partition(b"\r\n")[0]
        assert server.get("/health").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/rewards HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
    ids=["TLS", "no host", "negative length", "no chunk"],
)
def test_what_is_no_http_is_told_in_the_same_form(urm, sent):
    with socket.create_connection(("127.0.0.1", int(urm.url.rpartition(":")[2])), timeout=30) as client:
        client.sendall(sent)
        answer = b""
        while part := client.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.partition(b"\r\n")[0] and b"application/json" in head
    error = json.loads(body)["error"]
    assert error["row"] is None and "no TLS" in error["message"]


def test_no_answer_sends_a_request_elsewhere(urm):
    answer = urm.post("/v1/rewards/", {"conversations": ROWS}, allow_redirects=False)
    assert answer.status_code == 404 and "/v1/rewards" in error_of(answer)["message"]
    assert "POST" in urm.get("/v1/rewards").headers["Allow"]


def test_a_connection_on_which_no_request_begins_is_closed(monkeypatch):
    monkeypatch.setattr("urm_hf.serving.server.HEAD_SECONDS", 0.2)
    monkeypatch.setattr("urm_hf.serving.server.KEEP_ALIVE", 0.1)
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer())) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"POST /v1/rewards HTTP/1.1\r\nHost:")
            assert slow.recv(4096) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come one after the other
                answer += slow.recv(4096)
            assert b" 200 " in answer.partition(b"\r\n")[0]
            with suppress(ConnectionError):  # where this machine is slow, the server has closed it by now
                slow.sendall(b"G")
                assert slow.recv(4096) == b""


def test_a_request_that_takes_longer_than_its_head_may_is_answered(monkeypatch):
    monkeypatch.setattr("urm_hf.serving.server.HEAD_SECONDS", 0.1)
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer())) as server:
        score = server.service.scorer.score_ids

        def slowly(sequences):
            time.sleep(0.5)
            return score(sequences)

        monkeypatch.setattr(server.service.scorer, "score_ids", slowly)
        assert server.post("/v1/rewards", {"conversations": ROWS}).status_code == 200


def test_a_compressed_body_is_refused(urm):
    body = gzip.compress(json.dumps({"conversations": ROWS}).encode())
    answer = urm.post("/v1/rewards", data=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_unknown_routes_and_methods_are_told(urm):
    assert urm.post("/v1/reward", {}).status_code == 404 and "/v1/rewards" in error_of(urm.post("/x", {}))["message"]
    assert urm.get("/v1/rewards").status_code == 405


def test_a_reward_that_is_not_finite_is_500_and_named_and_alone():
    model = tiny_urm()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer()("~")["input_ids"][0]] = float("nan")
    scorer = RewardScorer(model, tiny_tokenizer())
    with running_server(scorer) as server:
        answer = server.post("/v1/rewards", {"conversations": ["a", "b", "c~", "d", "~"]})
        error = error_of(answer)
        assert answer.status_code == 500 and error["row"] == 2 and error["rows"] == [2, 4]
        assert "not finite" in error["message"]
        data = server.post("/v1/rewards", {"conversations": ["a", "~"], "on_error": "skip"}).json()["data"]
        assert data[0]["reward"] == close(scorer.score(["a"])[0].reward) and "not finite" in data[1]["error"]
        assert server.post("/v1/rewards", {"conversations": ["a"]}).status_code == 200
        scorer.score(["sound, and longer than what follows, so that it shows that packs are possible, which share"])
        prompt = "They share the beginning of this conversation, "
        sound = [f"{prompt}b", f"{prompt}a"]
        rows = [sound[0], f"{prompt}~", sound[1]]  # one that shares its prefix with others fails alone as well
        data = server.post("/v1/rewards", {"conversations": rows, "on_error": "skip"}).json()["data"]
        wanted = [score.reward for score in scorer.score(sound)]
        assert [data[0]["reward"], data[2]["reward"]] == close(wanted) and "not finite" in data[1]["error"]
    with running_server(scorer, unscorable=0.5) as server:
        query = [f"<|bos|><|im_start|>assistant\n{answer}<|im_end|>\n" for answer in ("a~", "b")]
        rewards = server.post("/get_reward", {"query": query}).json()["rewards"]
        (wanted,) = scorer.score(query[1:])  # which alone does not meet the other's NaN
        assert rewards == close([0.5, wanted.reward])


def test_a_client_that_goes_away_is_dropped(urm):
    """Its request is left out of the next step; the server says nothing and goes on."""
    port = int(urm.url.rpartition(":")[2])
    body = json.dumps({"conversations": ["gone"]}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        head = f"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode()
        client.sendall(head + body)
    for _ in range(6000):
        if urm.count("urm_requests_total", route="rewards", status="499"):
            break
        time.sleep(0.01)
    assert urm.count("urm_requests_total", route="rewards", status="499") == 1


def test_a_folder_whose_name_is_no_utf8_is_a_model_like_others():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), name="caf\udce9") as server:
        (model,) = server.get("/v1/models").json()["data"]
        answer = server.post("/v1/rewards", {"conversations": ROWS[:1], "model": model["id"]}).json()
        assert answer["model"] == model["id"] == "caf\udce9"
        assert server.post("/v1/rewards", {"conversations": [], "model": "another"}).status_code == 404
