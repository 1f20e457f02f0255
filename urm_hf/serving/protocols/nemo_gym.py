"""POST /verify, as NeMo Gym asks a resources server: {"responses_create_params", "response"} of OpenAI's Responses."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from urm_hf.data.conversations import Conversation, read_conversation
from urm_hf.data.errors import RowError
from urm_hf.scores import RewardScore
from urm_hf.serving.protocols.protocol import Answered, Asked, Protocol, list_logged
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import read_rows
from urm_hf.serving.service import RewardService


def read(asked: Asked, service: RewardService):
    params, response = asked.body.get("responses_create_params"), asked.body.get("response")
    if not isinstance(params, dict) or not isinstance(response, dict):
        wrong = "response" if isinstance(params, dict) else "responses_create_params"
        told = f"must be an object of the Responses API, got {type(asked.body.get(wrong)).__name__}."
        raise Refusal(422, f"`{wrong}` {told}")

    def join(response: dict[str, Any]) -> Conversation:
        given = params.get("input")
        before = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if not isinstance(before, list):
            raise RowError(f"`input` must be text or messages, got {type(given).__name__}.")
        if params.get("instructions") not in (None, ""):
            before = [{"role": "system", "content": params["instructions"]}, *before]
        output = response.get("output")
        if not isinstance(output, list):
            raise RowError(f"`output` must be a list, got {type(output).__name__}.")
        turns = [*read_items("input", before), *read_items("output", output)]
        if turns and turns[-1]["role"] == "assistant" and isinstance(turns[-1].get("content"), str):
            answer = service.repair.strip(turns[-1]["content"])
            if answer != turns[-1]["content"]:
                asked.repairs.append("ending")
                turns[-1]["content"] = answer
        row: dict[str, Any] = {"messages": turns}
        if params.get("tools"):
            row["tools"] = params["tools"]
        return read_conversation(row)

    asked.rows = read_rows([response], join)


def read_items(name: str, items: list[Any]) -> Iterator[dict[str, Any]]:
    """
    The turns of `input` or `output`.

    Raises:
        RowError: as of `read_item`, with the place of the item.
    """
    for number, item in enumerate(items):
        try:
            turn = read_item(item)
        except RowError as error:
            raise error.at(f"`{name}`[{number}]") from None
        if turn is not None:
            yield turn


def read_item(item: Any) -> dict[str, Any] | None:
    """
    A turn of an item of the Responses API; None of what a policy only thought.

    Raises:
        RowError: an item of another kind, which would be left out of what is scored.
    """
    kind = item.get("type") if isinstance(item, dict) else type(item).__name__
    if kind is None:  # as clients write an optional field that they leave open
        kind = "message"
    if kind == "reasoning":
        return None
    if kind == "function_call":
        arguments = item.get("arguments")
        with suppress(ValueError):  # what a policy wrote need not be JSON
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        call = {"type": "function", "function": {"name": item.get("name"), "arguments": arguments}}
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    if kind != "message" or not isinstance(item, dict):
        raise RowError(f"an item of the kind {str(kind)[:80]!r} is not read; send messages and function calls.")
    if "role" not in item:
        raise RowError("a message has no `role`: say whose it is.")
    content = item.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            raise RowError("the content of a message must be text.")
        content = "".join(map(str, texts))
    return {"role": item["role"], "content": content}


def write(answered: Answered) -> dict[str, Any]:
    (reward,), (score,) = answered.rewards, answered.scores
    scored = isinstance(score, RewardScore)
    logged = {name: values[0] for name, values in list_logged(answered).items()}
    told = {
        "reward": reward,
        "reward_components": {name: value for name, value in logged.items() if name != "unscorable"},
        "mask_sample": not scored,
    }
    if not scored:
        told["failure_reason"] = str(score)
    # what is to be averaged over samples has to stand beside the reward
    return answered.asked.body | told | {name: logged[name] for name in logged if name.startswith("reward_")}


NEMO_GYM = Protocol("nemo_gym", ("/verify",), read, write)
