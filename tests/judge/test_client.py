"""The client of a judge: what it tries again, for how long it waits, when it gives up, and where the key goes."""

import json
import logging
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from tests.helpers.judge_server import BROKEN, GARBAGE
from urm_hf.judge.client import JudgeClient, JudgeFailed, JudgeStopped, is_private_channel
from urm_hf.judge.prompt import judge_messages

KEY = "sk-very-secret-0123456789"
NAMES = ("model_a", "model_b")
UNANSWERED = ("hang", "drip")  # faults that only the client's own patience ends


def client_of(fake, **settings) -> JudgeClient:
    settings = {"max_attempts": 4, "backoff": 0.001} | settings
    return JudgeClient(fake.url, settings.pop("fields", {"model": "m", "temperature": 0.0}), **settings)


def ask(client: JudgeClient, faults: Counter | None = None, seed: int = 0, stop: threading.Event | None = None):
    messages = judge_messages("Count.", ("one", "one two"), NAMES)
    return client.ask(messages, seed, Counter() if faults is None else faults, stop or threading.Event())


def test_a_request_holds_messages_fields_and_seed_and_nothing_else(judge):
    reply = ask(client_of(judge, fields={"model": "m", "temperature": 0.5, "top_p": 1}), seed=7)
    assert json.loads(reply.content)[0] == {"model": "model_b", "rank": 1}
    assert (reply.finish, reply.model) == ("stop", "m-2026-01-01")
    assert (reply.prompt_tokens, reply.completion_tokens) == (100, 10)
    (body,) = judge.asked
    assert {**body, "messages": None} == {"messages": None, "seed": 7, "model": "m", "temperature": 0.5, "top_p": 1}
    assert judge.keys == [None]


def test_a_field_of_null_is_left_out(judge):
    ask(client_of(judge, fields={"model": "m", "seed": None, "temperature": None}))
    assert set(judge.asked[0]) == {"messages", "model"}


def test_an_answer_in_compressed_chunks_is_read(judge):
    judge.fault = lambda body, attempt: "gzip"
    assert json.loads(ask(client_of(judge)).content)[0] == {"model": "model_b", "rank": 1}
    assert len(judge.asked) == 1


@pytest.mark.parametrize("fault", [429, 500, 503, 529, 408, *BROKEN, *GARBAGE], ids=str)
def test_what_may_pass_is_tried_again_and_counted(judge, fault):
    # the answer that is right at last must come in time too, however busy the machine is
    failing, settings = (1, {"timeout": 3.0}) if fault in UNANSWERED else (2, {})
    judge.fault = lambda body, attempt: fault if attempt <= failing else None
    faults = Counter()
    assert ask(client_of(judge, **settings), faults).content.startswith("[")
    assert len(judge.asked) == failing + 1 and list(faults.values()) == [failing]


@pytest.mark.parametrize(
    "fault, told",
    [
        (500, "HTTP 500"),
        (429, "HTTP 429"),
        ("hang", "no answer (ReadTimeout)"),
        ("drip", "no answer (ReadTimeout)"),
        ("drop", "no answer (ConnectionError)"),
        ("reset", "no answer (ConnectionError)"),
        ("short", "no answer (ProtocolError)"),
        ("short chunks", "no answer (ProtocolError)"),
        ("html", "not JSON"),
        ("cut", "not JSON"),
        ("latin", "not JSON"),
        ("deep", "not JSON"),
        ("list", "no choices in the answer"),
        ("no choices", "no choices in the answer"),
        ("null", "no content in the answer"),
        ("empty", "no content in the answer"),
    ],
)
def test_what_does_not_pass_ends_after_the_attempts_with_its_reason(judge, fault, told):
    judge.fault = lambda body, attempt: fault
    faults = Counter()
    with pytest.raises(JudgeFailed) as error:
        ask(client_of(judge, max_attempts=2, **({"timeout": 0.3} if fault in UNANSWERED else {})), faults)
    assert str(error.value) == told and len(judge.asked) == 2 and faults == {told: 2}


def test_a_server_that_drips_cannot_hold_a_request_for_longer_than_the_timeout(judge):
    """Every single byte comes in time; the whole answer would take seconds."""
    judge.fault = lambda body, attempt: "drip"
    with pytest.raises(JudgeFailed):
        ask(client_of(judge, max_attempts=1, timeout=0.2))
    assert not judge.dripped


def test_an_endless_answer_is_cut_off(judge, monkeypatch):
    monkeypatch.setattr("urm_hf.judge.client.LARGEST", 100)
    with pytest.raises(JudgeFailed, match="more than 100 bytes"):
        ask(client_of(judge, max_attempts=1))


@pytest.mark.parametrize("status", [400, 402, 413, 422, 204])
def test_a_request_that_is_refused_is_not_sent_again_and_others_go_on(judge, status):
    judge.fault = lambda body, attempt: status if len(judge.asked) == 1 else None
    judge.error_text = "maximum context length is 8192 tokens"
    with pytest.raises(JudgeFailed, match=f"HTTP {status}"):
        ask(client_of(judge))
    assert len(judge.asked) == 1
    ask(client_of(judge))


def test_the_reason_of_a_refusal_is_quoted(judge):
    judge.fault, judge.error_text = (lambda body, attempt: 400), "maximum context length is 8192 tokens"
    with pytest.raises(JudgeFailed, match="HTTP 400: .*maximum context length is 8192 tokens"):
        ask(client_of(judge))


@pytest.mark.parametrize(
    "status, key, told",
    [
        (401, None, "refused access with HTTP 401, no API key was sent"),
        (401, KEY, "refused access with HTTP 401, the API key was refused"),
        (403, KEY, "refused access with HTTP 403"),
        (404, None, "has no model 'm' or no /chat/completions"),
    ],
)
def test_what_would_fail_for_all_stops_at_once(judge, status, key, told):
    judge.fault = lambda body, attempt: status
    with pytest.raises(JudgeStopped, match=told):
        ask(client_of(judge, api_key=key))
    assert len(judge.asked) == 1


def test_a_redirect_is_not_followed(judge):
    judge.fault = lambda body, attempt: (307, {"Location": "http://127.0.0.2:1/v1/chat/completions"})
    with pytest.raises(JudgeStopped, match="127.0.0.2:1"):
        ask(client_of(judge, api_key=KEY))
    assert len(judge.asked) == 1


class Waits(threading.Event):
    """Notes how long it is waited for, and does not wait."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout=None):
        self.seconds.append(timeout)
        return False


def waits(judge, **settings) -> list[float]:
    stop = Waits()
    with pytest.raises(JudgeFailed):
        ask(client_of(judge, **settings), stop=stop)
    return stop.seconds


def test_pauses_double_with_jitter_up_to_the_longest(judge):
    judge.fault = lambda body, attempt: 500
    seconds = [waits(judge, max_attempts=6, backoff=1, max_wait=6) for _ in range(8)]
    for pause, most in zip(zip(*seconds, strict=True), [1, 2, 4, 8, 16], strict=True):
        assert all(min(most / 2, 6) <= value <= min(most, 6) for value in pause)
    assert len({pauses[0] for pauses in seconds}) == 8


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked, least, most", [("3", 3, 3.002), ("100", 10, 10), ("0", 0, 0.002)])
def test_retry_after_is_honoured_up_to_the_longest_pause(judge, status, asked, least, most):
    judge.fault = lambda body, attempt: (status, {"Retry-After": asked})
    assert all(least <= pause <= most for pause in waits(judge, max_attempts=3, max_wait=10, backoff=0.001))


def test_retry_after_may_be_a_date(judge):
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    judge.fault = lambda body, attempt: (429, {"Retry-After": later})
    (pause,) = waits(judge, max_attempts=2, max_wait=60)
    assert 20 < pause < 31


@pytest.mark.parametrize("asked", ["soon", "-5", "nan", "1e400", "Wed, 99 Foo 2026 00:00:00 GMT", ""])
def test_a_retry_after_that_makes_no_sense_is_as_none(judge, asked):
    judge.fault = lambda body, attempt: (429, {"Retry-After": asked})
    (pause,) = waits(judge, max_attempts=2, backoff=1)
    assert 0.5 <= pause <= 1


def test_nothing_is_sent_after_the_run_has_stopped(judge):
    stop = threading.Event()
    stop.set()
    with pytest.raises(JudgeStopped):
        ask(client_of(judge), stop=stop)
    assert judge.asked == []


def test_an_endpoint_that_is_not_there_fails_and_does_not_crash():
    client = JudgeClient("http://127.0.0.1:9/v1", {"model": "m"}, max_attempts=2, backoff=0)
    with pytest.raises(JudgeFailed, match="no answer .ConnectionError."):
        ask(client)


# the key


def test_the_key_is_sent_in_the_header_alone(judge):
    ask(client_of(judge, api_key=KEY))
    assert judge.keys == [f"Bearer {KEY}"] and KEY not in json.dumps(judge.asked)


def test_a_password_of_netrc_is_not_sent(judge, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(client_of(judge))
    ask(client_of(judge, api_key=KEY))
    assert judge.keys == [None, f"Bearer {KEY}"]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_server_that_repeats_the_key_is_quoted_without_it(judge, status, caplog):
    judge.fault, judge.error_text = (lambda body, attempt: status), f"wrong key Bearer {KEY}"
    faults = Counter()
    client = client_of(judge, api_key=KEY, max_attempts=1)
    with caplog.at_level(logging.DEBUG), pytest.raises((JudgeFailed, JudgeStopped)) as error:
        ask(client, faults)
    assert (
        KEY not in f"{error.value!r} {error.getrepr(style='long', showlocals=False)} {faults} {client!r} {caplog.text}"
    )


def test_a_reply_that_repeats_the_key_is_kept_without_it(judge):
    judge.say = lambda names, place: f"You sent {judge.keys[-1]}."
    assert ask(client_of(judge, api_key=KEY)).content == "You sent Bearer [API key]."


@pytest.mark.parametrize("key", ["", "two words", f"{KEY}\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match="API key") as error:
        JudgeClient("https://host/v1", {}, api_key=key)
    assert KEY not in str(error.value) and "schl" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["host/v1", "ftp://host/v1", "https:///v1", "https://me:hidden@host/v1", "https://h/v1?key=hidden", ""]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused(url):
    with pytest.raises(ValueError, match="base URL") as error:
        JudgeClient(url, {})
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"timeout": float("nan")}, {"max_attempts": 0}, {"backoff": -1}, {"max_wait": -1}]
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be at least"):
        JudgeClient("https://host/v1", {}, **settings)


@pytest.mark.parametrize(
    "url, private",
    [
        ("https://host", True),
        ("http://localhost:1/v1", True),
        ("http://[::1]/v1", True),
        ("http://host", False),
        ("http://127.0.0.1.example.org/v1", False),
    ],
)
def test_channels_that_others_can_read_are_known(url, private):
    assert is_private_channel(url) is private
