"""What a posterior is worth on the rows that it was fitted on: how it predicts other prompts, and unfamiliar text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import pooled_features
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.statistics.rating_metrics import attribute_metrics
from urm_hf.trainers.rated_states import RatedStates

SHUFFLED = 200  # rows whose tokens are shuffled


def check_posterior(states: RatedStates, tokenizer: Any, rank: int | None = None, seed: int = 0) -> str:
    """
    A table to print: each row predicted by a posterior of the rows of other prompts, beside a constant prediction; and
    how well `epistemic` tells rows of shuffled tokens from rows of other prompts.

    Args:
        states ([`RatedStates`]): of the rows that the model's posterior was fitted on.
        tokenizer (`PreTrainedTokenizerBase`): the model's.
        rank (`int`, *optional*): directions that were kept.
        seed (`int`, *optional*, defaults to 0): of the shuffling.
    """
    config = states.model.config
    _, _, means, unknown = states.cross_fit(rank)
    stds = np.sqrt(states.model.score.posterior_noise.double().cpu().numpy() + unknown)
    location = np.nanmean(states.ratings, axis=(0, 2))
    spread = np.nanstd(states.ratings, axis=(0, 2))
    units = (states.ratings, states.attributes, location, spread)
    ours = attribute_metrics(means, stds, *units)
    constant = attribute_metrics(np.broadcast_to(location, means.shape), np.broadcast_to(spread, means.shape), *units)
    lines = [
        "",
        f"Each row predicted from the other prompts, {len(states):,} rows, {len(set(states.prompts)):,} prompts:",
        "",
        "| | r | likelihood, gained on a constant | 68 % interval of a Gaussian holds | 95 % |",
        "|---|---|---|---|---|",
    ]
    for name in states.attributes:
        gain = constant[f"nll/{name}"] - ours[f"nll/{name}"]
        lines.append(
            f"| {name} | {ours[f'pearson/{name}']:.2f} | {gain:+.3f} | {ours[f'coverage68/{name}']:.0%} | "
            f"{ours[f'coverage95/{name}']:.0%} |"
        )
    if states.sequences is not None:
        lines += ["", _tell_shuffled(states, states.sequences, tokenizer, seed)]
    if config.interval_factors is not None:
        lines += ["", f"Intervals are calibrated for {', '.join(config.interval_factors)}."]
    return "\n".join(lines)


@torch.no_grad()
def _tell_shuffled(states: RatedStates, sequences: Sequence[Sequence[int]], tokenizer: Any, seed: int) -> str:
    """AUROC of `epistemic` between rows and the same rows with their tokens in disorder."""
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(states))[:SHUFFLED]
    disorder = [generator.permutation(sequences[row]).tolist() for row in chosen]
    hidden = pooled_features(states.model, disorder, pad_token_id(tokenizer))[:]
    known = states.hidden[np.sort(chosen)]
    label_std = states.model.score.label_std.float().cpu()

    def measure(rows: np.ndarray) -> np.ndarray:
        _, variances = states.model.score.posterior(torch.from_numpy(np.ascontiguousarray(rows)))
        return (variances.cpu() / label_std.square()).sum(-1).numpy()

    auroc = compute_auroc(measure(known), measure(hidden))
    return (
        f"`epistemic` against the same {len(chosen)} rows with their tokens shuffled: AUROC {auroc:.3f} (0.5 is "
        "chance). The rows were fitted on, which flatters it; the real test is text that you call unfamiliar."
    )
