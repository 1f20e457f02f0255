"""The requests that the server answers: a file for each framework, and two for those of its own."""

from urm_hf.serving.protocols import nemo_gym, openrlhf, preferences, rewards, slime, verl
from urm_hf.serving.protocols.protocol import Protocol

PROTOCOLS: tuple[Protocol, ...] = (
    rewards.REWARDS,
    preferences.PREFERENCES,
    openrlhf.OPENRLHF,
    slime.SLIME,
    verl.CLASSIFY,
    verl.EMBEDDINGS,
    nemo_gym.NEMO_GYM,
)
