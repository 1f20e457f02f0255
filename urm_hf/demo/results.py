"""What a member of the demo is worth on the held-out test part, as a model card reads it from `results.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.data.conversations import encode_conversation
from urm_hf.demo.data import ATTRIBUTES
from urm_hf.hub.card.result_files import MODEL, build_short_results
from urm_hf.hub.card.results import METRICS
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import output_of_cached
from urm_hf.statistics.bootstrap import bootstrap_intervals
from urm_hf.statistics.rating_metrics import attribute_metrics

DRAWS = 200


def held_out_results(
    model: URMForRewardModeling, tokenizer, rated: list[dict], pairs: list[dict], prompts: int, cache: Path
) -> dict[str, Any]:
    """
    Metrics of attributes and of preference pairs, with 95 % bootstrap intervals over whole prompts.

    Args:
        model (`URMForRewardModeling`): a member.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        rated (`list[dict]`): rows of N conversations, prompt after prompt, equally many of each.
        pairs (`list[dict]`): rows of P pairs, prompt after prompt, equally many of each.
        prompts (`int`): how many there are of either.
        cache (`Path`): folder of hidden states that are computed already.
    """
    output = _read_outputs(model, tokenizer, [row["messages"] for row in rated], cache)
    means, stds = output.attribute_means.numpy(), output.attribute_stds.numpy()
    by_attribute = [_read_column(rated, attribute) for attribute in ATTRIBUTES]  # n of (N, R)
    ratings = np.stack(by_attribute, axis=1)  # (N, n, R)
    config = model.config
    units = (ATTRIBUTES, config.label_means, config.label_stds, config.attribute_scales)

    def attributes(chosen: np.ndarray) -> dict[str, float]:
        found = attribute_metrics(means[chosen], stds[chosen], ratings[chosen], *units)
        return {key: value for key, value in found.items() if key.partition("/")[0] in METRICS}

    chosen_rewards = _read_outputs(model, tokenizer, [row["chosen"] for row in pairs], cache).logits[:, 0]  # (P,)
    rejected_rewards = _read_outputs(model, tokenizer, [row["rejected"] for row in pairs], cache).logits[:, 0]
    is_right = (chosen_rewards > rejected_rewards).numpy()

    def accuracy(rows: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(is_right[rows].mean())}

    interval = bootstrap_intervals(accuracy, _split_by_prompt(len(pairs), prompts), DRAWS)["accuracy"]
    return build_short_results(
        attributes(np.arange(len(rated))),
        bootstrap_intervals(attributes, _split_by_prompt(len(rated), prompts), DRAWS),
        len(rated),
        {MODEL: accuracy(np.arange(len(pairs))) | {"interval": interval}},
        len(pairs),
    )


def _read_column(rows: list[dict], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def _read_outputs(model: URMForRewardModeling, tokenizer, conversations: list, cache: Path):
    ids = [encode_conversation(tokenizer, messages) for messages in conversations]
    return output_of_cached(model, ids, pad_token_id(tokenizer), cache)


def _split_by_prompt(rows: int, prompts: int) -> list[np.ndarray]:
    """The rows of each prompt."""
    return np.split(np.arange(rows), prompts)
