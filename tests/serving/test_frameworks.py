"""
Each framework's request, as its client sends it, gets the reward of the conversation that it means.

The clients below are re-readings of OpenRLHF's `remote_rm_url`, slime's `remote_rm`, verl's reward loop and NeMo Gym's
`/verify`: the same bodies, and the same fields of the answers.
"""

from typing import Any

import pytest
import requests

from tests.helpers.chats import ROWS, messages_of, render, render_prompt
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer


def ask(url: str, body: dict[str, Any]) -> Any:
    answer = requests.post(url=url, json=body, headers={"Content-Type": "application/json"}, timeout=180)
    answer.raise_for_status()
    return answer.json()


def openrlhf(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    """What a policy read and wrote, which ends with its EOS, without what the template writes behind it."""
    query = render_prompt(tokenizer, row) + row["response"] + tokenizer.eos_token
    answer = ask(f"{url}/get_reward", {"query": [query], "prompts": [render_prompt(tokenizer, row)], "labels": [""]})
    assert answer["rewards"] == answer["scores"] and len(answer["extra_logs"]["reward_std"]) == 1
    return answer["rewards"][0]


def slime(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    response = row["response"] + tokenizer.eos_token
    return ask(f"{url}/reward", {"prompt": render_prompt(tokenizer, row), "response": response, "label": None})


def slime_messages(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    response = row["response"] + tokenizer.eos_token
    return ask(f"{url}/reward", {"prompt": messages_of(row)[:1], "response": response, "label": "x"})


def stripped(tokenizer: Any, row: dict[str, str]) -> str:
    """verl takes EOS out of the answer, renders with the reward model's template, and strips a BOS."""
    text = render(tokenizer, row)
    return text[len(tokenizer.bos_token) :] if text.startswith(tokenizer.bos_token) else text


def verl_vllm(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    body = {"model": "org/urm", "input": stripped(tokenizer, row), "use_activation": False}
    return ask(f"{url}/classify", body)["data"][-1]["probs"][-1]


def verl_sglang(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    body = {"model": "org/urm", "input": stripped(tokenizer, row)}
    return ask(f"{url}/v1/embeddings", body)["data"][-1]["embedding"][-1]


def nemo_gym(url: str, tokenizer: Any, row: dict[str, str]) -> float:
    message = {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": row["response"], "annotations": []}],
    }
    body = {
        "responses_create_params": {"input": messages_of(row)[:1]},
        "response": {"id": "r", "output": [{"type": "reasoning", "summary": []}, message]},
        "verifier_metadata": {"kept": 1},
    }
    answer = ask(f"{url}/verify", body)
    assert answer.items() >= body.items() and answer["mask_sample"] is False
    assert all(isinstance(value, float) for value in answer["reward_components"].values())
    return answer["reward"]


CLIENTS = [openrlhf, slime, slime_messages, verl_vllm, verl_sglang, nemo_gym]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_framework_gets_the_right_reward(server, client):
    tokenizer = server.scorer.tokenizer
    for row, score in zip(ROWS, server.scorer.score(ROWS), strict=True):
        assert client(server.url, tokenizer, row) == pytest.approx(score.reward, abs=1e-4)
        assert client(server.url, tokenizer, row) == close(score.reward)


def test_what_was_repaired_is_counted(urm):
    tokenizer, row = urm.scorer.tokenizer, {"prompt": "What is counted?", "response": "Repairs."}
    kinds = {openrlhf: ("openrlhf", "ending"), slime: ("slime", "ending"), verl_vllm: ("classify", "begin")}
    for client, (route, kind) in kinds.items():
        before = urm.count("urm_repairs_total", route=route, kind=kind)
        client(urm.url, tokenizer, row)
        assert urm.count("urm_repairs_total", route=route, kind=kind) == before + 1


def test_openrlhf_gets_empty_lists_for_empty_ones(urm):
    answer = ask(f"{urm.url}/get_reward", {"query": [], "prompts": [], "labels": []})
    assert answer["rewards"] == answer["scores"] == [] and set(map(len, answer["extra_logs"].values())) == {0}


def test_openrlhf_gets_a_reward_for_each_text_in_their_order(urm):
    texts = [render(urm.scorer.tokenizer, row) for row in ROWS]
    rewards = ask(f"{urm.url}/get_reward", {"query": texts})["rewards"]
    assert rewards == close([score.reward for score in urm.scorer.score(ROWS)])


def test_openrlhf_without_a_template_is_read_by_its_prompts(urm):
    row = ROWS[0]
    body = {"query": [row["prompt"] + row["response"] + "<|im_end|>"], "prompts": [row["prompt"]], "labels": [""]}
    (reward,) = ask(f"{urm.url}/get_reward", body)["rewards"]
    assert reward == close(urm.scorer.score([row])[0].reward)
    answer = urm.post("/get_reward", {"query": body["query"]})
    assert answer.status_code == 422 and "--apply_chat_template" in answer.json()["error"]["message"]


def test_slime_gets_everything_with_full(urme):
    answer = ask(f"{urme.url}/reward?full=1", {"prompt": "Name a river.", "response": "The Po.", "label": ""})
    (score,) = urme.scorer.score([{"prompt": "Name a river.", "response": "The Po."}])
    assert answer["score"] == close(score.reward)
    assert answer["reward_gap"] == close(score.reward_gap) and "attribute_helpfulness" in answer["logged"]


def test_numbers_before_the_reward_are_named(urme):
    answer = ask(f"{urme.url}/v1/classify", {"model": "m", "input": [render(urme.scorer.tokenizer, ROWS[0])] * 2})
    (score,) = urme.scorer.score(ROWS[:1])
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    numbers = dict(zip(answer["names"], answer["data"][1]["probs"], strict=True))
    assert answer["names"][-1] == "reward" and numbers["reward_gap"] == close(score.reward_gap)
    assert numbers["mean_coherence"] == close(score.attribute_means["coherence"])
    assert numbers["std_coherence"] == close(score.attribute_stds["coherence"])


@pytest.mark.parametrize("form", ["ids", "list of ids", "messages"])
def test_classify_reads_ids_and_messages(urm, form):
    tokenizer, row = urm.scorer.tokenizer, ROWS[0]
    ids = tokenizer(render(tokenizer, row)[:-1], add_special_tokens=False)["input_ids"]  # no final newline
    body = {"ids": {"input": ids}, "list of ids": {"input": [ids]}, "messages": {"messages": messages_of(row)}}[form]
    (entry,) = ask(f"{urm.url}/classify", body)["data"]
    assert entry["probs"][-1] == close(urm.scorer.score([row])[0].reward)


def test_nemo_gym_scores_calls_only_where_the_template_writes_them(urm):
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}
    body = {"responses_create_params": {"input": "Call f."}, "response": {"output": [call]}}
    answer = urm.post("/verify", body)
    assert answer.status_code == 422 and "does not write tool calls" in answer.json()["error"]["message"]
    body["response"] = {"output": [{"type": "image_generation_call"}]}
    answer = urm.post("/verify", body)
    assert answer.status_code == 422 and "image_generation_call" in answer.json()["error"]["message"]


def test_uncertainty_costs_what_the_server_was_told(ensemble):
    scorer = RewardScorer(ensemble, tiny_tokenizer())
    (score,) = scorer.score(ROWS[:1])
    with running_server(scorer, measure="reward_gap", coefficient=0.5) as server:
        wanted = score.reward - 0.5 * score.reward_gap
        for client in CLIENTS:
            assert client(server.url, scorer.tokenizer, ROWS[0]) == close(wanted)
        (entry,) = server.post("/v1/rewards", {"conversations": ROWS[:1]}).json()["data"]
        assert entry["reward"] == close(score.reward)


def test_what_cannot_be_scored_gets_the_value_that_was_agreed_on():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer())
    long = "x" * 600
    with running_server(scorer, unscorable=-5.0) as server:
        good = render(scorer.tokenizer, ROWS[0])
        answer = ask(f"{server.url}/get_reward", {"query": [good, long, good]})
        wanted = scorer.score(ROWS[:1])[0].reward
        assert answer["rewards"] == close([wanted, -5.0, wanted])
        assert answer["extra_logs"]["unscorable"] == [0, 1, 0]
        assert ask(f"{server.url}/reward", {"prompt": "Why?", "response": long, "label": ""}) == -5.0
        assert ask(f"{server.url}/classify", {"input": long})["data"][-1]["probs"] == [-5.0]
        output = [{"type": "message", "role": "assistant", "content": long}]
        verified = ask(
            f"{server.url}/verify", {"responses_create_params": {"input": "?"}, "response": {"output": output}}
        )
        assert (
            verified["reward"] == -5.0 and verified["mask_sample"] is True and "tokens" in verified["failure_reason"]
        )
        assert server.count("urm_unscorable_rows_total", route="openrlhf") == 1
        # not so on the server's own route, where a reward is one of the model's
        assert server.post("/v1/rewards", {"conversations": [long]}).status_code == 422
