"""
POST /get_reward, as OpenRLHF's `--remote_rm_url` asks: {"query": [prompt with answer], "prompts", "labels"}.

Given several URLs, OpenRLHF sends all queries to the first and empty lists to the others, which have to be answered.
"""

from typing import Any

from urm_hf.serving.protocols.protocol import (
    Answered,
    Asked,
    Protocol,
    check_count,
    list_logged,
    read_texts,
    take_list,
)
from urm_hf.serving.refusals import Refusal
from urm_hf.serving.service import RewardService


def read(asked: Asked, service: RewardService):
    query = asked.body.get("query")
    texts = [query] if isinstance(query, str) else take_list(asked.body, "query")
    prompts = asked.body.get("prompts")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if prompts is not None and (not isinstance(prompts, list) or len(prompts) not in (0, len(texts))):
        raise Refusal(422, f"`prompts` must be a list of {len(texts)}, one for each entry of `query`, or be left out.")
    check_count(texts, service)
    read_texts(asked, service, texts, prompts or None)


def write(answered: Answered) -> dict[str, Any]:
    rewards = answered.rewards
    # `scores` is what OpenRLHF filters groups by
    return {"rewards": rewards, "scores": rewards, "extra_logs": list_logged(answered)}


OPENRLHF = Protocol("openrlhf", ("/get_reward",), read, write)
