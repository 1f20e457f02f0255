"""
POST /classify and /v1/embeddings, as verl asks vLLM and SGLang for rewards: it takes the last number of the last row.

The numbers before it are the means and standard deviations of the attributes and the uncertainties, by `names`.
"""

from typing import Any

from urm_hf.data.conversations import read_conversation
from urm_hf.scores import RewardScore
from urm_hf.serving.protocols.protocol import LOGGED, Answered, Asked, Protocol, check_count, read_texts
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import read_rows
from urm_hf.serving.service import RewardService


def read(asked: Asked, service: RewardService):
    body = asked.body
    if body.get("messages") is not None:  # the server's own template writes them, so nothing is to be repaired
        asked.rows = read_rows([{"messages": body["messages"]}], read_conversation)
        return
    given = next((body[name] for name in ("input", "text", "input_ids") if body.get(name) is not None), None)
    if given is None:
        raise Refusal(422, "`input` is missing: send a text, a list of texts, token ids, or `messages`.")
    one = isinstance(given, str) or (isinstance(given, list) and bool(given) and type(given[0]) is int)
    texts = [given] if one else given
    if not isinstance(texts, list):
        raise Refusal(422, f"`input` must be a text, a list of texts or token ids, got {type(given).__name__}.")
    check_count(texts, service)
    read_texts(asked, service, texts)


def list_names(answered: Answered) -> list[str]:
    """What the numbers of a row are."""
    example = answered.service.example
    attributes = list(example.get("attribute_means") or ())
    names = [f"mean_{name}" for name in attributes] + [f"std_{name}" for name in attributes]
    return [*names, *(name for name in LOGGED if name in example), "reward"]


def list_numbers(answered: Answered) -> list[list[float]]:
    """The numbers of each row, its reward the last; of one that cannot be scored only that."""
    rows: list[list[float]] = []
    for score, reward in zip(answered.scores, answered.rewards, strict=True):
        numbers: list[float] = []
        if isinstance(score, RewardScore):
            for field in ("attribute_means", "attribute_stds"):
                numbers += (score.get(field) or {}).values()
            numbers += [score[name] for name in LOGGED if name in answered.service.example]
        rows.append([*numbers, reward])
    return rows


def write_classes(answered: Answered) -> dict[str, Any]:
    data = [
        {"index": index, "label": "reward", "probs": numbers, "num_classes": len(numbers)}
        for index, numbers in enumerate(list_numbers(answered))
    ]
    return _write(answered, data)


def write_embeddings(answered: Answered) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": numbers}
        for index, numbers in enumerate(list_numbers(answered))
    ]
    return _write(answered, data)


def _write(answered: Answered, data: list[dict[str, Any]]) -> dict[str, Any]:
    model = answered.service.settings.name
    return {"object": "list", "model": model, "data": data, "usage": answered.usage, "names": list_names(answered)}


CLASSIFY = Protocol("classify", ("/classify", "/v1/classify"), read, write_classes)
EMBEDDINGS = Protocol("embeddings", ("/v1/embeddings",), read, write_embeddings)
