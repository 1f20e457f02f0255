"""
Requests to a judge behind an OpenAI-compatible `/chat/completions`, over a network and servers that fail.

The API key goes into one header and nowhere else: a server that repeats it is not quoted with it.
"""

import ipaddress
import json
import os
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)  # statuses after which a second try may succeed
LARGEST = 1_000_000  # bytes of an answer


class JudgeStopped(OSError):
    """Every further request would fail in the same way; the message says what to change."""


class JudgeFailed(Exception):
    """One request failed for good; the message says how its last attempt did."""


class _Fault(Exception):
    """One attempt failed. `wait`: the seconds that the server asks for, if it does; `again`: another may succeed."""

    def __init__(self, told: str, wait: float | None = None, again: bool = True):
        super().__init__(told)
        self.wait, self.again = wait, again


@dataclass(frozen=True)
class Reply:
    """
    What a judge said.

    Args:
        content (`str`): the text; not empty, unless the client allows it.
        finish (`str` or `None`): why it ended; "length": it was cut.
        model (`str` or `None`): who answered, as the server says, which may be another than was asked for.
        prompt_tokens (`int`): as the server counts them, 0 if it does not.
        completion_tokens (`int`): likewise.
    """

    content: str
    finish: str | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int


@dataclass
class JudgeClient:
    """
    A judge behind an endpoint; may be used by any number of threads.

    Args:
        base_url (`str`): ends before `/chat/completions`, such as "https://api.openai.com/v1".
        fields (`dict`): of the request beside messages and seed: `model`, `temperature`, ...; None removes one.
        api_key (`str`, *optional*): sent as a bearer token.
        timeout (`float`, *optional*, defaults to 120): seconds for a whole answer, and for connecting.
        max_attempts (`int`, *optional*, defaults to 6): requests in all before one is given up.
        backoff (`float`, *optional*, defaults to 1): seconds before the second attempt, doubled before each further
            one.
        max_wait (`float`, *optional*, defaults to 60): the longest pause in seconds, also where the server asks for
            more.
        allow_empty (`bool`, *optional*, defaults to `False`): whether a reply may say nothing, as a policy's answer
            may.

    Raises:
        ValueError: an argument is out of range, or the URL or the key cannot be used.
    """

    base_url: str
    fields: dict[str, Any]
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 120
    max_attempts: int = 6
    backoff: float = 1
    max_wait: float = 60
    allow_empty: bool = False

    def __post_init__(self):
        check_url(self.base_url)
        least = {"timeout": 0.001, "max_attempts": 1, "backoff": 0, "max_wait": 0}
        for name, value in least.items():
            if not getattr(self, name) >= value:  # and not `<`, which lets NaN pass
                raise ValueError(f"`{name}` must be at least {value}, got {getattr(self, name)}.")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ValueError("the API key is empty, or has spaces, line breaks or letters that a header cannot hold.")
        self._own = threading.local()  # requests' sessions are not made for several threads

    def ask(self, messages: list[dict[str, str]], seed: int, faults: Counter, stop: threading.Event) -> Reply:
        """
        One reply, after as many attempts as it takes; those that fail are counted in `faults` by what went wrong.
        When `stop` is set there are no more.

        Args:
            messages (`list[dict]`): with `role` and `content`.
            seed (`int`): of the judge's sampling, where the server heeds it.
            faults (`Counter`): what went wrong is added to it.
            stop (`Event`): ends the wait between attempts as well.

        Raises:
            JudgeFailed: there is none.
            JudgeStopped: nor would there be one to any other request.
        """
        fields = {"messages": messages, "seed": seed} | self.fields
        body = {name: value for name, value in fields.items() if value is not None}
        for attempt in range(1, self.max_attempts + 1):
            if stop.is_set():
                raise JudgeStopped("the run was stopped.")
            try:
                return self._attempt(body)
            except _Fault as fault:
                faults[str(fault)] += 1
                if not fault.again or attempt == self.max_attempts:
                    raise JudgeFailed(str(fault)) from None
                stop.wait(self._compute_pause(attempt, fault.wait))
        raise AssertionError  # the last attempt returns or raises

    def _compute_pause(self, attempt: int, asked: float | None) -> float:
        """Seconds; a random part keeps requests that failed together from coming back together."""
        wait = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1)
        return min(wait + max(asked or 0, 0), self.max_wait)

    def _attempt(self, body: dict[str, Any]) -> Reply:
        deadline = time.monotonic() + self.timeout
        try:
            url = self.base_url.rstrip("/") + "/chat/completions"
            # Streamed, for `timeout` of requests is that between two bytes: a server that drips could hold a thread
            # for hours. No redirects, which would take the key to another host.
            settings: dict[str, Any] = {"timeout": self.timeout, "stream": True, "allow_redirects": False}
            with self._session().post(url, json=body, auth=self._authorize, **settings) as response:
                content = _read_body(response, deadline)
        except (requests.RequestException, HTTPError) as error:  # its text is left out: it varies, and holds addresses
            kind = "ReadTimeout" if isinstance(error, ReadTimeoutError) else type(error).__name__
            raise _Fault(f"no answer ({kind})") from None
        if response.status_code != 200:
            self._raise_for_status(response, content)
        return self._read_reply(content)

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
            if is_loopback(self.base_url):
                # HTTP_PROXY may name another machine, which would read key and prompts; a proxy for what is on this
                # one is never meant. Certificates are the other thing that a session takes from the environment.
                self._own.session.trust_env = False
                bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
                self._own.session.verify = bundle or True
        return self._own.session

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """In place of `requests`' own way, which would take a password from ~/.netrc."""
        if self.api_key is not None:
            request.headers["Authorization"] = f"Bearer {self.api_key}"
        return request

    def _raise_for_status(self, response: requests.Response, content: bytes):
        status = response.status_code
        told = self._quote(content)
        if status in AGAIN:
            raise _Fault(f"HTTP {status}", _read_retry_after(response))
        if status in (401, 403):
            key = "no API key was sent" if self.api_key is None else "the API key was refused"
            raise JudgeStopped(f"{self.base_url} refused access with HTTP {status}, {key}: {told}")
        if status == 404:
            raise JudgeStopped(
                f"{self.base_url} has no model {self.fields.get('model')!r} or no /chat/completions (HTTP 404; a base "
                f"URL often ends in /v1): {told}"
            )
        if 300 <= status < 400:
            raise JudgeStopped(
                f"{self.base_url} sends requests on to {self._remove_key(response.headers.get('Location', ''))!r}, "
                "where the API key would go too: if it is right, give it as the base URL."
            )
        raise _Fault(f"HTTP {status}: {told}", again=False)

    def _read_reply(self, content: bytes) -> Reply:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise _Fault("not JSON") from None
        try:
            choice = answer["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            raise _Fault("no choices in the answer") from None
        if not isinstance(text, str) or not (text.strip() or self.allow_empty):
            cut = ", it was cut at max_tokens" if finish == "length" else ""
            raise _Fault(f"no content in the answer{cut}")
        usage, model = answer.get("usage"), answer.get("model")
        return Reply(
            content=self._remove_key(text),
            finish=finish if isinstance(finish, str) else None,
            model=self._remove_key(model) if isinstance(model, str) else None,
            prompt_tokens=_read_count(usage, "prompt_tokens"),
            completion_tokens=_read_count(usage, "completion_tokens"),
        )

    def _quote(self, content: bytes) -> str:
        """The beginning of what a server said, for an error."""
        # without the key before it is cut: a part of it would be found no more
        text = " ".join(self._remove_key(content.decode(errors="replace")).split())
        return text[:300] or "it gives no reason."

    def _remove_key(self, text: str) -> str:
        return text if self.api_key is None else text.replace(self.api_key, "[API key]")


def check_url(base_url: str):
    """
    Raises:
        ValueError: it is no URL of HTTP, or holds more than a host, a port and a path.
    """
    if any(sign in base_url for sign in "@?#"):  # the URL is not repeated: it may hold a secret
        raise ValueError("the base URL must hold no user, password, query or fragment; see --api-key-env for a key.")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the base URL must be like https://host/v1, got {base_url!r}.")


def is_private_channel(base_url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" or is_loopback(base_url)


def is_loopback(base_url: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1 is no loopback to Python before 3.13
    return (mapped or address).is_loopback


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """The body, in the pieces in which it comes: to wait for larger ones, while a server drips, may take for ever."""
    content = bytearray()
    while piece := response.raw.read1(65536, decode_content=True):
        content += piece
        if len(content) > LARGEST:
            raise _Fault(f"an answer of more than {LARGEST} bytes")
        if time.monotonic() > deadline:
            raise _Fault("no answer (ReadTimeout)")
    return bytes(content)


def _read_retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait, whether it names seconds or a date."""
    try:
        return Retry().get_retry_after(response.raw)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _read_count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int else 0  # True is an `int` to isinstance
