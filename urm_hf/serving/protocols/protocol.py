"""What a protocol is: how its requests are read, and how scores are written as it expects them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from urm_hf.data.content import FILL_IN
from urm_hf.data.conversations import Conversation
from urm_hf.data.errors import RowError
from urm_hf.scores import RewardScore
from urm_hf.serving.batching import NotFinite
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import Row, encode_rows, encode_unanswered, read_rows
from urm_hf.serving.service import RewardService

LOGGED = ("reward_std", "reward_gap", "epistemic_variance", "covariance_norm")  # of a score, for frameworks' logs


@dataclass
class Asked:
    """
    A request that was read.

    Args:
        body (`dict`): its JSON.
        query (`dict[str, str]`): the parameters of its URL.
        rows (`list`): its conversations, and errors in place of those that cannot be read.
        repairs (`list[str]`): what was done to their texts.
        skips (`bool`): whether rows that cannot be scored are no error of the request.
        unanswered (`bool`): whether conversations without an answer are scored too.
    """

    body: dict[str, Any]
    query: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    skips: bool = False
    unanswered: bool = False


@dataclass
class Answered:
    """
    A request with its scores.

    Args:
        asked ([`Asked`]): the request.
        service ([`RewardService`]): who scored it.
        scores (`list`): a score for each row, or what is wrong with it.
        tokens (`int`): of all rows.
    """

    asked: Asked
    service: RewardService
    scores: list[RewardScore | RowError]
    tokens: int

    @property
    def rewards(self) -> list[float]:
        """What a framework trains on: less the penalty, and the agreed value for what cannot be scored."""
        value = self.service.settings.unscorable
        return [
            self.service.penalise(score) if isinstance(score, RewardScore) else float(value or 0.0)
            for score in self.scores
        ]

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, as OpenAI's answers tell them."""
        return {"prompt_tokens": self.tokens, "total_tokens": self.tokens}


@dataclass(frozen=True)
class Protocol:
    """
    Args:
        name (`str`): what metrics call it.
        paths (`tuple[str, ...]`): where it is served.
        read (`Callable`): fills the rows of a request in; runs in a thread.
        write (`Callable`): what is sent as JSON.
        repairs (`bool`, *optional*, defaults to `True`): whether it is a framework's, which may agree on a reward for
            what cannot be scored.
        sides (`tuple[str, ...]`, *optional*): what the rows of one item of a request are called, where it has several.
    """

    name: str
    paths: tuple[str, ...]
    read: Callable[[Asked, RewardService], None]
    write: Callable[[Answered], Any]
    repairs: bool = True
    sides: tuple[str, ...] = ()

    def prepare(self, body: dict[str, Any], query: Mapping[str, str], service: RewardService):
        """The request and its token ids; made in a thread, for both take time."""
        asked = Asked(body, query, skips=self.repairs and service.settings.unscorable is not None)
        self.read(asked, service)
        check_count(asked.rows, service)
        tokenizer = service.scorer.tokenizer

        def encode(conversation: Conversation) -> list[int]:
            if asked.unanswered:
                return encode_unanswered(tokenizer, conversation)
            return conversation.encode(tokenizer)

        return asked, encode_rows(service.encoder, asked.rows, encode)

    def answer(self, answered: Answered) -> bytes:
        """
        The JSON of an answer.

        Raises:
            Refusal: a row cannot be scored, and nothing was agreed on for that.
        """
        errors = {number: error for number, error in enumerate(answered.scores) if isinstance(error, RowError)}
        if errors:
            answered.service.metrics.unscorable.labels(self.name).inc(len(errors))
        if errors and not answered.asked.skips:
            raise refuse_rows(errors, self.sides)
        return json.dumps(self.write(answered), allow_nan=False).encode()


def refuse_rows(errors: Mapping[int, RowError], sides: tuple[str, ...] = ()) -> Refusal:
    """The refusal of a request some of whose rows cannot be scored, told by the first of them."""
    count = max(1, len(sides))
    number = min(errors)
    first = number // count
    told = f"row {first}{f', `{sides[number % count]}`' if sides else ''}: {errors[number]}"
    unsound = list(dict.fromkeys(place // count for place, error in errors.items() if isinstance(error, NotFinite)))
    if isinstance(errors[number], NotFinite):
        more = "" if len(unsound) == 1 else f" So it is with {len(unsound)} rows: {unsound[:8]}."
        return Refusal(500, told + more, row=first, rows=unsound)
    return Refusal(422, told, row=first)


def check_count(rows: list[Any], service: RewardService):
    """A Refusal if a request has too many rows."""
    most = service.settings.max_rows
    if len(rows) > most:
        raise Refusal(413, f"the request has {len(rows)} conversations, more than {most} (--max-rows): send fewer.")


def take_list(body: Mapping[str, Any], name: str) -> list[Any]:
    """
    A list that a request has to have.

    Raises:
        Refusal: it is missing, or something else.
    """
    if name not in body:
        raise Refusal(422, f"`{name}` is missing: it is a list, with an entry for each conversation.")
    value = body[name]
    if not isinstance(value, list):
        raise Refusal(422, f"`{name}` must be a list, got {type(value).__name__}.")
    return value


def check_names(body: Mapping[str, Any], known: tuple[str, ...]):
    """A Refusal if a request has a field that would be ignored."""
    unknown = sorted(map(str, body.keys() - set(known)))
    if unknown:
        raise Refusal(422, f"there is no `{unknown[0][:80]}`; a request has {', '.join(known)}.")


def check_model(body: Mapping[str, Any], service: RewardService):
    """A Refusal if a request is meant for another model."""
    name = body.get("model")
    if name is not None and name != service.settings.name:
        raise Refusal(404, f"this server has the model {service.settings.name!r}; /v1/models lists it.")


def read_texts(asked: Asked, service: RewardService, texts: list[Any], prompts: list[Any] | None = None):
    """
    Repairs a framework's texts and makes rows of them.

    Args:
        asked ([`Asked`]): gets the rows, and what was done.
        service ([`RewardService`]): its tokenizer says what a right text is.
        texts (`list`): each a text, or token ids.
        prompts (`list`, *optional*): the beginning of each, where the framework sends that too.
    """

    def read(pair: tuple[Any, Any]) -> Conversation:
        text, prompt = pair
        if isinstance(text, list) and text:
            if not all(type(token) is int for token in text):
                raise RowError("token ids must be integers.")
            conversation, done = service.repair.repair_ids(text)
        elif isinstance(text, str) and text.strip():
            conversation, done = service.repair.repair(text, prompt)
        elif isinstance(text, (str, list)):
            raise RowError(f"it is empty. {FILL_IN}")
        else:
            raise RowError(f"it must be a text or token ids, got {type(text).__name__}.")
        asked.repairs += done
        return conversation

    asked.rows = read_rows(list(zip(texts, prompts or [None] * len(texts), strict=True)), read)


def write_score(score: RewardScore) -> dict[str, Any]:
    """All fields that the model gives."""
    return {name: value for name, value in score.items() if value is not None}


def list_logged(answered: Answered) -> dict[str, list[float]]:
    """Numbers for a framework's log, each with an entry for every row: 0 for what could not be scored."""
    logged: dict[str, list[float]] = {}
    for name, example in answered.service.example.items():
        if name not in LOGGED and name != "attribute_means":
            continue
        if isinstance(example, dict):
            for attribute in example:
                logged[f"attribute_{attribute}"] = [
                    score[name][attribute] if isinstance(score, RewardScore) else 0.0 for score in answered.scores
                ]
        else:
            logged[name] = [score[name] if isinstance(score, RewardScore) else 0.0 for score in answered.scores]
    logged["reward_raw"] = [score["reward"] if isinstance(score, RewardScore) else 0.0 for score in answered.scores]
    logged["unscorable"] = [float(not isinstance(score, RewardScore)) for score in answered.scores]
    return logged
