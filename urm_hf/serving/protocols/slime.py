"""POST /reward, as slime's `--rm-type remote_rm` asks: {"prompt", "response", "label"}; the answer is a number."""

from typing import Any

from urm_hf.data.conversations import Conversation, read_conversation
from urm_hf.scores import RewardScore
from urm_hf.serving.protocols.protocol import Answered, Asked, Protocol, list_logged, read_texts, write_score
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.rows import read_rows
from urm_hf.serving.service import RewardService


def read(asked: Asked, service: RewardService):
    prompt, response = asked.body.get("prompt"), asked.body.get("response")
    if not isinstance(response, str):
        sent = ", ".join(f"`{str(name)[:40]}`" for name in list(asked.body)[:8]) or "nothing"
        raise Refusal(422, f"`response` must be text, got {type(response).__name__}; the request has {sent}.")
    if isinstance(prompt, str):
        read_texts(asked, service, [prompt + response], [prompt])
        return
    if not isinstance(prompt, list):
        raise Refusal(422, f"`prompt` must be text or messages, got {type(prompt).__name__}.")

    def join(messages: Any) -> Conversation:
        answer = service.repair.strip(response)
        if answer != response:
            asked.repairs.append("ending")
        return read_conversation({"prompt": messages, "response": answer})

    asked.rows = read_rows([prompt], join)


def write(answered: Answered) -> Any:
    (reward,), (score,) = answered.rewards, answered.scores
    if answered.asked.query.get("full") not in ("1", "true"):
        return reward
    told = write_score(score) if isinstance(score, RewardScore) else {"error": str(score)}
    return {"score": reward, **told, "logged": {name: values[0] for name, values in list_logged(answered).items()}}


SLIME = Protocol("slime", ("/reward",), read, write)
