"""A policy, and prompts for it."""

CHAT = [
    [{"role": "user", "content": "Name a river."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why do cats purr at night, and when?"}],
    [{"role": "user", "content": "Hi"}],
]
TEXTS = ["Once upon a time", "The sea is", "A"]
