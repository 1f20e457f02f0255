"""What a judge's server, or a proxy on the way to it, may not get: keys and prompts, the summary, the terminal."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.judge_runs import ROWS, judged, run, write
from urm_hf.cli.printable import printable
from urm_hf.judge.client import is_loopback, is_private_channel

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "pairs.jsonl", ROWS)


@pytest.fixture
def proxy(monkeypatch):
    """What a proxy on this machine, that all variables name, received."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, dict(self.headers)))
            self.send_response(502)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_CONNECT = do_POST

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield received
    server.shutdown()
    server.server_close()


def test_what_goes_to_this_machine_goes_through_no_proxy(judge, data, monkeypatch, proxy):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert run(judge, data) == 0
    assert proxy == [] and judged(data)[1]["judged"] == len(ROWS)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.8.9.1"])
def test_names_of_this_machine(host):
    assert is_loopback(f"http://{host}:8000/v1") and is_private_channel(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]"])
def test_addresses_of_this_machine(host):
    assert is_loopback(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["localhost.example.com", "example.com", "10.0.0.1", "0.0.0.1", "127.0.0.1.nip.io"])
def test_names_of_other_machines(host):
    assert not is_loopback(f"http://{host}/v1") and not is_private_channel(f"http://{host}/v1")


def test_half_a_surrogate_pair_in_a_reply_breaks_nothing(judge, data):
    usual = judge.completion

    def completion(body):
        answer = usual(body)
        answer["model"] = "m\ud800"
        answer["choices"][0]["message"]["content"] += "\udfff"
        return answer

    judge.completion = completion
    assert run(judge, data) == 0
    rows, summary = judged(data)
    assert len(rows) == len(ROWS) and summary["answered_by"] == ["m\ud800"]


def test_escape_sequences_of_a_server_do_not_reach_the_terminal(judge, data, capsys):
    attack = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe"
    judge.fault = lambda body, attempt: attack.encode()
    assert run(judge, data) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "owned" in error and "gnp.exe" in error and printable(error) == error


def test_printable_text_stays_and_what_steers_is_shown():
    assert printable("Grüße 你好 مرحبا 👍\n\tx") == "Grüße 你好 مرحبا 👍\n\tx"
    assert printable("\x1b[31m\x07\x9b\r\x7f\u202e\ud800") == "\\x1b[31m\\x07\\x9b\\r\\x7f\\u202e\\ud800"


def test_what_commands_print_of_data_is_printable(tmp_path, capsys):
    from urm_hf.cli import main

    data = write(tmp_path / "pairs.jsonl", [{"prompt": "\x1b[2JQuestion?", "chosen": "a", "rejected": "b"}])
    argv = ["judge", "m", "--base-url", "http://localhost:9/v1", "--data", data, "--out", tmp_path / "o.jsonl"]
    assert main([*map(str, argv), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "Question?" in out
