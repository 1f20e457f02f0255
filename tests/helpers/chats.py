"""Conversations as the server's own template writes them."""

from typing import Any

ROWS = [
    {"prompt": "Name a river.", "response": "The Po, in Italy."},
    {"prompt": "Why?", "response": "Bécause."},
    {"prompt": "Name a river.", "response": "The Rhine, the Danube and many more besides."},
    {"prompt": "Name a river.", "response": "The Po, in Italy."},
]


def messages_of(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]


def render(tokenizer: Any, row: dict[str, str]) -> str:
    """The text that the model is trained on."""
    return tokenizer.apply_chat_template(messages_of(row), tokenize=False)


def render_prompt(tokenizer: Any, row: dict[str, str]) -> str:
    """What a policy continues."""
    return tokenizer.apply_chat_template(messages_of(row)[:1], tokenize=False, add_generation_prompt=True)
