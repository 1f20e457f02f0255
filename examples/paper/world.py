"""
A task small enough for GRPO and DPO on two cores, with a gold reward that no policy sees.

A prompt names a topic; a policy of 0.2 million weights answers with up to ten words. Gold is a rule: the share of the
topic's four words that the answer states, less a quarter for each word that it says twice or that is bad. Simulated
annotators rate answers of the policy as it is at first, which seldom repeats itself; the reward models see these
ratings alone. What pays in their eyes and not in truth is to repeat what is good: the policy will find it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback

from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer

TOPICS, GOOD_WORDS, OTHERS, BAD = 8, 4, 12, 6
ATTRIBUTES = ["coverage", "cleanness"]  # rated 0..4
WEIGHTS = [0.5, 0.5]
LONGEST = 10  # words of an answer
WORDS = {
    **{f"topic{k}": [f"good{k}{chr(97 + j)}" for j in range(GOOD_WORDS)] for k in range(TOPICS)},
    "other": [f"other{k}" for k in range(OTHERS)],
    "bad": [f"bad{k}" for k in range(BAD)],
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    names = ["<pad>", "<eos>", "<unk>", ":", *[name for name in WORDS if name.startswith("topic")]]
    names += [word for words in WORDS.values() for word in words]
    tokenizer = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def make_prompts() -> list[str]:
    return [f"topic{k} : " for k in range(TOPICS)]


def rate(prompt: str, answer: str) -> np.ndarray:
    """The true ratings of an answer, (2,), 0..4."""
    wanted, said = set(WORDS[prompt.split()[0]]), answer.split()
    stated = len(wanted & set(said))
    wrong = len(said) - len(set(said)) + sum(word.startswith("bad") for word in set(said))
    return np.array([4 * stated / GOOD_WORDS, max(0.0, 4 - wrong)])


def gold(prompt: str, answer: str) -> float:
    return float(rate(prompt, answer) @ WEIGHTS)


def speak(prompt: str, rng: np.random.Generator) -> str:
    """An answer as the policy is taught to give at first: mostly beside the point, seldom repeating itself."""
    kinds = {prompt.split()[0]: 0.3, "other": 0.55, "bad": 0.15}
    said: list[str] = []
    for _ in range(rng.integers(2, LONGEST)):
        word = str(rng.choice(WORDS[str(rng.choice(list(kinds), p=list(kinds.values())))]))
        if word not in said or rng.random() < 0.1:
            said.append(word)
    return " ".join(said)


def make_policy(folder: Path, seed: int = 0, steps: int = 600) -> str:
    """A small Llama that speaks so, trained once; its folder."""
    if (folder / "config.json").is_file():
        return str(folder)
    torch.manual_seed(seed)
    tokenizer, rng = make_tokenizer(), np.random.default_rng(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes, **ends)
    policy = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    prompts = make_prompts()
    for _ in range(steps):
        texts = [prompts[k] + speak(prompts[k], rng) + " <eos>" for k in rng.integers(0, TOPICS, 64)]
        batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        policy(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@dataclass
class Proxies:
    """
    Args:
        urm, urme (`RewardScorer`): one model, and an ensemble of three of which it is the first.
        known (`list`): rows of rated answers that no member trained on, of which thresholds are quantiles.
    """

    urm: RewardScorer
    urme: RewardScorer
    known: list[dict]


def make_proxies(policy: str, folder: Path, seed: int, answers: int, noise: float) -> Proxies:
    """Three URMs on the frozen policy, each on its own nine tenths of the rated answers."""
    rng = np.random.default_rng(1000 + seed)
    rated = {split: rate_answers(rng, count, noise) for split, count in (("train", answers), ("known", 16))}
    members, tokenizer = [], make_tokenizer()
    for number in range(3):
        torch.manual_seed(10 * seed + number)
        model = URMForRewardModeling.from_backbone(policy, attributes=ATTRIBUTES, reward_weights=WEIGHTS)
        config = URMAttributeConfig(
            str(folder / f"member-{number}"),
            freeze_backbone=True,
            per_device_train_batch_size=16,
            seed=10 * seed + number,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        rows = rated["train"]
        kept = rng.permutation(len(rows))[: round(0.9 * len(rows))]
        own = Dataset.from_list([rows[row] for row in kept])
        trainer = URMAttributeTrainer(model, config, train_dataset=own, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.save_pretrained(folder / f"member-{number}")
        tokenizer.save_pretrained(folder / f"member-{number}")
        members.append(str(folder / f"member-{number}"))
    urme = URMEnsemble.from_pretrained(members)
    return Proxies(RewardScorer(members[0]), RewardScorer(urme, tokenizer), rated["known"])


def rate_answers(rng: np.random.Generator, answers: int, noise: float) -> list[dict]:
    """So many rated answers of the first policy to each prompt, by three annotators."""
    rows = []
    for prompt in make_prompts():
        for _ in range(answers):
            answer = speak(prompt, rng)
            ratings = np.clip(rate(prompt, answer) + noise * rng.standard_normal((3, 2)), 0, 4).round(2)
            columns = {name: ratings[:, k].tolist() for k, name in enumerate(ATTRIBUTES)}
            rows.append({"prompt": prompt, "completion": answer, **columns})
    return rows
