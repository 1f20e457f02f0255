"""
A judge on loopback: an OpenAI-compatible endpoint that reads its prompt strictly, with faults on request.

It takes the prompt apart by itself, as JSON values between fixed sentences: a text that got out of its string would
make the prompt unreadable.
"""

import gzip
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.helpers.loopback import serving

BROKEN = ("hang", "drop", "reset", "short", "short chunks", "drip")  # connections
GARBAGE = ("html", "cut", "list", "no choices", "null", "empty", "latin", "deep")  # answers with status 200


def read_prompt(body: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Instruction and outputs of a request; an error if there is anything else than there has to be."""
    system, user = body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    text, decoder = user["content"], json.JSONDecoder()
    beginning, start = "Here is the prompt:\n", text.index("Here is the prompt:\n")
    prompt, end = decoder.raw_decode(text, start + len(beginning))
    between = "\n\nHere are the outputs of the models:\n"
    assert list(prompt) == ["instruction"] and text.startswith(between, end), text
    outputs, end = decoder.raw_decode(text, end + len(between))
    assert [list(output) for output in outputs] == [["model", "answer"]] * 2, text
    assert text.startswith("\n\nNow please rank the models", end), text
    return prompt["instruction"], outputs


def ranking(names: list[str], place: int) -> str:
    """What the prompt asks for: the model at this place comes first."""
    first, second = names[place], names[1 - place]
    return f'[\n    {{"model": "{first}", "rank": 1}},\n    {{"model": "{second}", "rank": 2}}\n]'


def longest(instruction: Any, answers: list[Any]) -> int:
    return int(len(str(answers[1])) > len(str(answers[0])))


def first(instruction: Any, answers: list[Any]) -> int:
    """A judge that sees the place only."""
    return 0


def naive(instruction: Any, answers: list[Any]) -> int:
    """Obeys an answer that orders a rank for a place; else prefers the longest."""
    for answer in answers:
        if order := re.search(r"rank model (one|two) first", str(answer)):
            return ["one", "two"].index(order[1])
    return longest(instruction, answers)


class FakeJudge:
    """
    Attributes:
        judge: of instruction and answers, the place (0 or 1) that it prefers. say: its reply, of names and place.
        fault: of a request's body and the number of the attempt at it (from 1): one of `BROKEN` or `GARBAGE`, a
            status, a status with headers, "gzip" for a good answer in compressed chunks, or None.
        asked: bodies, in order. keys: the authorizations that came with them.
        most_at_once: requests. dripped: whether an answer has dripped to its end.
        on_request: called with the number of requests so far, before one is answered.
    """

    def __init__(self):
        self.judge: Callable[[Any, list[Any]], int] = longest
        self.say: Callable[[list[str], int], str] = ranking
        self.fault: Callable[[dict[str, Any], int], Any] = lambda body, attempt: None
        self.on_request: Callable[[int], None] = lambda number: None
        self.error_text = "no"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.attempts: Counter = Counter()
        self.most_at_once = self.now = 0
        self.dripped = False
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.url = ""

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        instruction, outputs = read_prompt(body)
        place = self.judge(instruction, [output["answer"] for output in outputs])
        content = self.say([output["model"] for output in outputs], place)
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        return {"id": "x", "model": body["model"] + "-2026-01-01", "choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, fake: FakeJudge, *args):
        self.fake = fake
        super().__init__(*args)

    def log_message(self, *args):
        """Nothing is printed."""

    def do_POST(self):
        fake = self.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with fake.lock:
            fake.asked.append(body)
            fake.keys.append(self.headers.get("Authorization"))
            fake.attempts[body["messages"][-1]["content"]] += 1
            attempt, number = fake.attempts[body["messages"][-1]["content"]], len(fake.asked)
            fake.now += 1
            fake.most_at_once = max(fake.most_at_once, fake.now)
        try:
            fake.on_request(number)
            self.answer(body, fake.fault(body, attempt))
        finally:
            with fake.lock:
                fake.now -= 1

    def answer(self, body: dict[str, Any], fault: Any):
        if self.path != "/v1/chat/completions":
            fault = 404
        if fault is None:
            return self.send(200, json.dumps(self.fake.completion(body)).encode())
        if isinstance(fault, bytes):
            return self.send(404, fault)
        if isinstance(fault, int | tuple):
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            return self.send(status, json.dumps({"error": {"message": self.fake.error_text}}).encode(), headers)
        self.misbehave(fault, json.dumps(self.fake.completion(body)).encode())

    def misbehave(self, fault: str, whole: bytes):
        if fault in ("hang", "drop", "reset"):
            self.close_connection = True
            if fault == "hang":
                self.fake.stopped.wait(5)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if fault in ("gzip", "short chunks"):
            return self.send_chunks(gzip.compress(whole), whole_too=fault == "gzip")
        if fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            for byte in whole:
                if self.fake.stopped.wait(0.03):
                    return None
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            self.fake.dripped = True
            return None
        empty = {"choices": [{"message": {"content": None if fault == "null" else " "}}]}
        contents = {
            "short": whole[:50],
            "html": b"<html><body>Bad gateway, but 200</body></html>",
            "cut": whole[:-20],
            "list": b"[1, 2]",
            "no choices": b'{"choices": []}',
            "null": json.dumps(empty).encode(),
            "empty": json.dumps(empty).encode(),
            "latin": b'{"choices": "\xe9"}',
            "deep": b"[" * 100_000,
        }
        self.send(200, contents[fault], {"Content-Length": str(len(whole))} if fault == "short" else {})
        if fault == "short":
            self.close_connection = True

    def send_chunks(self, content: bytes, whole_too: bool):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        for start in range(0, len(content), 50):
            piece = content[start : start + 50]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if not whole_too:
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None):
        self.send_response(status)
        usual = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in (usual | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def running_judge():
    """A [`FakeJudge`] that serves on a free port of 127.0.0.1 while the block runs."""
    fake = FakeJudge()
    with serving(partial(Handler, fake)) as port:
        fake.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield fake
        finally:
            fake.stopped.set()


@contextmanager
def judge_of_a_test(monkeypatch: pytest.MonkeyPatch):
    """A judge that is reached without a proxy, and no API key in the environment."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_judge() as fake:
        yield fake
