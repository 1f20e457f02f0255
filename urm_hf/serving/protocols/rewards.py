"""POST /v1/rewards: conversations in any form that the data layer reads, scored exactly as they are."""

from typing import Any

from urm_hf.scores import RewardScore
from urm_hf.serving.protocols.protocol import (
    Answered,
    Asked,
    Protocol,
    check_count,
    check_model,
    check_names,
    take_list,
    write_score,
)
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import read_rows
from urm_hf.serving.service import RewardService

FIELDS = ("conversations", "model", "on_error", "unanswered")


def read(asked: Asked, service: RewardService):
    body = asked.body
    check_names(body, FIELDS)
    check_model(body, service)
    on_error = body.get("on_error", "raise")
    if on_error not in ("raise", "skip"):
        raise Refusal(422, f'`on_error` must be "raise" or "skip", got {str(on_error)[:80]!r}.')
    if not isinstance(body.get("unanswered", False), bool):
        raise Refusal(422, "`unanswered` must be true or false.")
    values = take_list(body, "conversations")
    check_count(values, service)
    asked.skips, asked.unanswered = on_error == "skip", body.get("unanswered", False)
    asked.rows = read_rows(values)


def write(answered: Answered) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    for index, score in enumerate(answered.scores):
        told = write_score(score) if isinstance(score, RewardScore) else {"error": f"row {index}: {score}"}
        data.append({"index": index, **told})
    return {
        "model": answered.service.settings.name,
        "data": data,
        "usage": {"prompt_tokens": answered.tokens},
    }


REWARDS = Protocol("rewards", ("/v1/rewards",), read, write, repairs=False)
