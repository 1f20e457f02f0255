"""A scorer whose model is elsewhere: behind `urm serve`, over HTTP."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase

from urm_hf.data.conversations import read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.progress import ProgressBar
from urm_hf.data.several import check_several
from urm_hf.scores import RewardScore
from urm_hf.scoring.scorer import NonFiniteScores

AGAIN = (429, 502, 503, 504)  # statuses after which a second try may succeed
ATTEMPTS = 6
LONGEST_PAUSE = 8.0  # seconds
ROWS_AT_ONCE = 1024
# what frameworks are given, and a scorer is not
ROUTES = ("get_reward", "reward", "classify", "v1/classify", "v1/embeddings", "verify", "v1/rewards", "v1/models")
NOT_FINITE = "the model gave a reward that is not finite"  # as the server tells it


class ServerError(OSError):
    """The server cannot be had, or refuses every request; the message says what to change."""


class _Token(AuthBase):
    """What is sent with each request. Without this, requests would look for a password in ~/.netrc."""

    def __init__(self, token: str | None):
        self.token = token

    def __call__(self, request: Any) -> Any:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class RemoteScorer:
    """
    Scores conversations on a server that runs `urm serve`, with the numbers that [`RewardScorer`] gives there.

    ```python
    scorer = RemoteScorer("http://127.0.0.1:8770")
    scores = scorer.score([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]])
    scores[0].reward, scores[0].reward_std
    ```

    Args:
        url (`str`): where the server is; the token may stand in it as a password, `http://any:TOKEN@host:8770`.
        token (`str`, *optional*): what the server asks for, if it does.
        timeout (`float`, *optional*, defaults to 600): seconds to wait for an answer.

    Attributes:
        attributes (`list[str]` or `None`): what the model predicts.
        is_ensemble (`bool`): whether it has members.
        has_posterior (`bool`): whether it is a single URM with a posterior.
        fingerprint (`str`): tells the model, with the server's settings that scores depend on, from others.
        heads (`list[str]` or `None`): digests of the heads of the model, or of its members.
        learnt_from_chats (`bool`): whether plain text is another form than that of its training, as far as it says.
        max_length (`int` or `None`): longest conversation in tokens.

    Raises:
        ValueError: `url` is none, or `token` cannot stand in a header.
        ServerError: the server does not answer, or not with a model.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 600.0):
        parts = _split_url(url)
        if not timeout > 0:
            raise ValueError(f"`timeout` must be positive, got {timeout}.")
        password = None if parts.password is None else unquote(parts.password)
        self.url = _without_password(url).rstrip("/")  # from here on: errors and logs show it
        self.timeout = timeout
        self._session = requests.Session()
        self._session.auth = _Token(_check_token(password if token is None else token))
        self.read_model()

    def read_model(self):
        """Asks the server what its model is. Raises a [`ServerError`] if it does not answer."""
        data = self._ask("GET", "/v1/models")["data"]
        try:
            (model,) = data
            self.name: str = model["id"]
            self.attributes: list[str] | None = model["attributes"]
            self.is_ensemble: bool = model["kind"] == "ensemble"
            self.has_posterior: bool = bool(model.get("has_posterior"))  # servers of former versions do not say
            self.max_length: int | None = model["max_length"]
            self.fingerprint: str = model["fingerprint"]
            self.heads: list[str] | None = model.get("heads")  # likewise
            self.learnt_from_chats: bool = bool(model.get("learnt_from_chats"))
            self._max_rows, self._max_body = int(model["max_rows"]), int(model["max_body"])
        except (TypeError, ValueError, KeyError, AttributeError):  # of another server, which has such a route, too
            raise ServerError(f"{self.url}/v1/models does not tell of one reward model; is it `urm serve`?") from None

    def __call__(self, conversations: Iterable[Any], progress: bool = False) -> list[RewardScore]:
        """The same as [`~RemoteScorer.score`]."""
        return self.score(conversations, progress=progress)

    def score(self, conversations: Iterable[Any], progress: bool = False) -> list[RewardScore]:
        """
        One score for each conversation, in their order.

        Args:
            conversations (`Iterable`): as of [`RewardScorer.score`].
            progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.

        Returns:
            `list[RewardScore]`: a reward with its uncertainty for each conversation.

        Raises:
            RowError: a row cannot be encoded or is too long, or its reward is not finite; the row is named.
            ServerError: the server does not answer.
        """
        return list(self.score_stream(list(check_several(conversations)), progress=progress))

    def score_stream(
        self, conversations: Iterable[Any], progress: bool = False, rows_at_once: int = ROWS_AT_ONCE
    ) -> Iterator[RewardScore]:
        """
        As `score`, in constant memory for any number of conversations.

        Args:
            conversations (`Iterable`): as of [`RewardScorer.score`]; keep the answers to one prompt together.
            progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
            rows_at_once (`int`, *optional*, defaults to 1024): conversations of one request at most.

        Yields:
            `RewardScore`: one for each conversation, in their order.

        Raises:
            RowError: as of [`~RemoteScorer.score`], when the row is reached.
        """
        if rows_at_once < 1:
            raise ValueError(f"`rows_at_once` must be positive, got {rows_at_once}.")
        rows, first = iter(check_several(conversations)), 0
        total = len(conversations) if isinstance(conversations, Sequence) else None
        with ProgressBar(total=total, desc="Scoring", disable=not progress) as bar:
            while window := list(islice(rows, min(rows_at_once, self._max_rows))):
                for chunk in self._split([_write_row(row, first + n) for n, row in enumerate(window)]):
                    for place, entry in enumerate(self._post(chunk, first, {})):
                        yield self._read_score(entry, place)
                    first += len(chunk)
                    bar.update(len(chunk))

    def score_usable(
        self, conversations: Sequence[Any], *, unanswered: bool = True, progress: str | None = None
    ) -> list[RewardScore | RowError]:
        """
        One score for each conversation, or what is wrong with it.

        Args:
            conversations (`Sequence`): as of [`RewardScorer.score`].
            unanswered (`bool`, *optional*, defaults to `True`): whether what a policy left unanswered is scored as it
                is, or is an error.
            progress (`str`, *optional*): shows a progress bar of this name.
        """
        results: list[RewardScore | RowError] = [RowError("it was not sent.")] * len(conversations)
        rows: list[tuple[int, str]] = []
        for number, conversation in enumerate(conversations):
            try:
                rows.append((number, _write_row(conversation, number)))
            except RowError as error:
                results[number] = error
        first, options = 0, {"on_error": "skip", "unanswered": unanswered}
        with ProgressBar(total=len(rows), unit="conv", desc=progress, leave=False, disable=progress is None) as bar:
            for chunk in self._split([row for _, row in rows]):
                for place, entry in enumerate(self._post(chunk, 0, options), start=first):
                    number = rows[place][0]
                    told = entry.get("error") if isinstance(entry, dict) else None
                    if told is None:
                        results[number] = self._read_score(entry, place - first)
                    else:
                        results[number] = RowError(str(told), row=number)
                first += len(chunk)
                bar.update(len(chunk))
        return results

    def _split(self, rows: Sequence[str]) -> Iterator[list[str]]:
        """The rows in requests that are no larger than the server takes."""
        chunk: list[str] = []
        size = 0
        for row in rows:
            length = len(row) + 2  # ASCII: characters are bytes
            if chunk and (size + length > self._max_body - 200 or len(chunk) == min(self._max_rows, ROWS_AT_ONCE)):
                yield chunk
                chunk, size = [], 0
            chunk.append(row)
            size += length
        if chunk:
            yield chunk

    def _post(self, rows: Sequence[str], first: int, options: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries of an answer; errors name rows counted from `first`."""
        fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in options.items()]
        body = "{" + ", ".join([*fields, f'"conversations": [{", ".join(rows)}]']) + "}"
        try:
            data = self._ask("POST", "/v1/rewards", body)["data"]
        except _RowRefused as error:
            raise error.as_row_error(first) from None
        if not isinstance(data, list):
            raise ServerError(f"{self.url}/v1/rewards gave no list of scores; is it `urm serve`?")
        if len(data) != len(rows):
            raise ServerError(f"{self.url} gave {len(data)} scores for {len(rows)} conversations; is it `urm serve`?")
        return data

    def _read_score(self, entry: Any, place: int) -> RewardScore:
        """A score of an answer; a ServerError if it is none, or that of another row."""
        fields = dict(entry) if isinstance(entry, dict) else {}
        index, reward = fields.pop("index", place), fields.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, (int, float)) or not math.isfinite(reward):
            raise ServerError(f"{self.url}/v1/rewards gave no finite reward for row {place}; is it `urm serve`?")
        if index != place:
            raise ServerError(f"{self.url}/v1/rewards gave the score of row {index} in place of row {place}.")
        try:
            return RewardScore(**fields)
        except TypeError as error:
            told = "gave fields that this version does not know; install here the version of urm-hf that is there"
            raise ServerError(f"{self.url}/v1/rewards {told} ({error}).") from None

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        """The JSON of an answer, after some attempts where the server or the network was not ready."""
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            pause = min(LONGEST_PAUSE, 0.5 * 2**attempt)
            try:
                response = self._session.request(
                    method,
                    self.url + path,
                    data=None if body is None else body.encode(),
                    headers={"Content-Type": "application/json"},
                    timeout=(10, self.timeout),
                    allow_redirects=False,  # a redirect would take the conversations elsewhere
                )
            except (requests.ConnectionError, requests.Timeout) as error:
                if last or isinstance(error, requests.ReadTimeout):
                    raise ServerError(
                        f"{self.url} does not answer ({type(error).__name__}): is `urm serve` running there?"
                    ) from None
            except requests.RequestException as error:
                raise ServerError(f"{self.url}{path} failed ({type(error).__name__}).") from None
            else:
                if response.status_code not in AGAIN or last:
                    return self._read(response, path)
                asked = response.headers.get("Retry-After", "")
                pause = max(pause, min(LONGEST_PAUSE, float(asked))) if asked.isdecimal() else pause
            time.sleep(pause)

    def _read(self, response: requests.Response, path: str) -> Any:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code == 200 and isinstance(answer, dict) and "data" in answer:
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        told = error.get("message") if isinstance(error, dict) else None
        if isinstance(error, dict) and told and type(error.get("row")) is int:
            rows = error.get("rows")
            known = isinstance(rows, list) and all(type(row) is int for row in rows)
            raise _RowRefused(str(told), error["row"], rows if known else None)
        raise ServerError(f"{self.url}{path} answered {response.status_code}: {told or 'is it `urm serve`?'}")


class _RowRefused(Exception):
    """One row of a request cannot be scored."""

    def __init__(self, told: str, row: int, rows: list[int] | None):
        super().__init__(told)
        self.row, self.rows = row, rows

    def as_row_error(self, first: int) -> RowError:
        """The error that [`RewardScorer`] raises, its rows counted from `first`."""
        row = self.row + first
        told = str(self).replace(f"row {self.row}:", f"row {row}:", 1)
        if self.rows is not None:
            return NonFiniteScores(told, row=row, indices=[number + first for number in self.rows])
        return RowError(told, row=row)


def is_url(value: Any) -> bool:
    """Whether it names a server, and no repository or folder."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _split_url(url: Any) -> SplitResult:
    """The parts of a URL of a server; a ValueError if it is none."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:  # a bracket without its other, or a port that is no number
        raise ValueError("`url` must be like http://127.0.0.1:8770; this one cannot be read.") from None
    if not known:
        raise ValueError(f"`url` must be like http://127.0.0.1:8770, got {_show(url)!r}.")
    if parts.path.strip("/") in ROUTES:
        raise ValueError(f"`url` must be the server's address alone, without a route, got {_show(url)!r}.")
    return parts


def _check_token(token: str | None) -> str | None:
    """A token that a header can carry; the error does not repeat it, for errors end up in logs."""
    if token is not None and not all("!" <= character <= "~" for character in token):
        raise ValueError(
            "`token` must be printable ASCII characters without spaces: is there a line break at its end?"
        )
    return token or None


def _show(url: Any) -> Any:
    return _without_password(url) if isinstance(url, str) else url


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _write_row(conversation: Any, number: int) -> str:
    """The JSON of a conversation, in a form that reads as the same on the server."""
    try:
        return json.dumps(read_conversation(conversation).as_row(), allow_nan=False)
    except RowError as error:
        raise error.at(f"row {number}", row=number) from error
    except (TypeError, ValueError, RecursionError) as error:
        told = f"row {number}: it cannot be written as JSON ({str(error)[:200]})."
        raise RowError(told, row=number) from error
