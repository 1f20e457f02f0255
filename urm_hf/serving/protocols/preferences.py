"""POST /v1/preferences: which of two answers is better, how sure the model is, and whether to trust it."""

from typing import Any

from urm_hf.data.conversations import read_conversation
from urm_hf.serving.protocols.protocol import Answered, Asked, Protocol, check_model, check_names, write_score
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import read_rows
from urm_hf.serving.service import RewardService
from urm_hf.uncertainty.measures import compute_preference_probability

FIELDS = ("prompt", "a", "b", "model", "confidence")
CONFIDENCE = 0.75  # half way between a guess and certainty


def read(asked: Asked, service: RewardService):
    body = asked.body
    check_names(body, FIELDS)
    check_model(body, service)
    if service.scorer.attributes is None:
        raise Refusal(422, "this model gives no uncertainty, and so no probability; serve a URM or an ensemble.")
    confidence = body.get("confidence", CONFIDENCE)
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0.5 <= confidence < 1:
        raise Refusal(422, f"`confidence` must be at least 0.5 and below 1, got {str(confidence)[:80]}.")
    missing = [name for name in ("prompt", "a", "b") if body.get(name) is None]
    if missing:
        raise Refusal(422, f"`{missing[0]}` is missing: a request has `prompt`, `a` and `b`.")
    columns = [body[name] if _are_several(body["a"]) else [body[name]] for name in ("prompt", "a", "b")]
    if not all(isinstance(column, list) and len(column) == len(columns[1]) for column in columns):
        raise Refusal(422, f"`prompt`, `a` and `b` must have as many entries each: `a` has {len(columns[1])}.")
    sides = [
        {"prompt": prompt, "response": answer}
        for pair in zip(*columns, strict=True)
        for prompt, answer in ((pair[0], pair[1]), (pair[0], pair[2]))
    ]
    asked.rows = read_rows(sides, read_conversation)


def _are_several(answers: Any) -> bool:
    """Whether it is a list of answers, of which each is text or messages, and not the messages of one."""
    return isinstance(answers, list) and not (answers and isinstance(answers[0], dict))


def write(answered: Answered) -> dict[str, Any]:
    scores: list[Any] = answered.scores  # all of them: an error of one is an error of the request
    confidence = answered.asked.body.get("confidence", CONFIDENCE)
    firsts, seconds = scores[0::2], scores[1::2]
    probabilities = compute_preference_probability(firsts, seconds).tolist()
    data: list[dict[str, Any]] = []
    for index, (a, b, probability) in enumerate(zip(firsts, seconds, probabilities, strict=True)):
        told: dict[str, Any] = {
            "index": index,
            "probability": probability,
            "preferred": "a" if a["reward"] > b["reward"] else "b" if b["reward"] > a["reward"] else None,
        }
        agree = True
        if a.get("member_rewards") is not None:
            signs = {
                (one > other) - (one < other) for one, other in zip(a.member_rewards, b.member_rewards, strict=True)
            }
            agree = told["members_agree"] = len(signs) == 1
        told["trusted"] = bool(agree and max(probability, 1 - probability) >= confidence)
        data.append(told | {"a": write_score(a), "b": write_score(b)})
    return {
        "model": answered.service.settings.name,
        "data": data,
        "usage": {"prompt_tokens": answered.tokens},
    }


PREFERENCES = Protocol("preferences", ("/v1/preferences",), read, write, repairs=False, sides=("a", "b"))
