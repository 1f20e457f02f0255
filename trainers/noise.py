"""Noise of Eq. 5 that is independent on every process, and the same again when a run is resumed."""

import numpy as np
import torch
from torch import Tensor


def draw_noise(like: Tensor, seed: int, step: int, micro_step: int, rank: int) -> Tensor:
    """
    alpha ~ N(0, I) of Eq. 5.

    The global generator will not do: every process of a run has the same seed, so that eight of them would draw one
    noise eight times. What is drawn depends on nothing but these numbers, so that a resumed run draws it again.

    Args:
        like (`Tensor`): gives shape, dtype and device.
        seed (`int`): of the run.
        step (`int`): optimization steps done.
        micro_step (`int`): batches of this step done, of those that are accumulated.
        rank (`int`): number of the process.

    Returns:
        `Tensor` as `like`.
    """
    words = np.random.SeedSequence([seed, step, micro_step, rank]).generate_state(2, np.uint32)
    # 63 bits, since a seed of torch is a signed integer; drawn on the CPU, so that devices and dtypes draw alike
    generator = torch.Generator("cpu").manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
