"""The short card of a checkpoint that is pushed without `urm push`. This file travels with every checkpoint."""

import os
import re
from collections.abc import Sequence

CARD_BLANK = "[More Information Needed]"  # what forms of transformers and peft have in place of a text
# a README.md with this line is written anew by each push; one without it is somebody's own and kept
CARD_MARKER = "<!-- Written by urm-hf, and written anew by each push. Delete this line to keep your own edits. -->"


def escape_markdown(text: object) -> str:
    """
    A text of others, such as an attribute's name, as it may stand in a card: on one line, in a table too, without
    links, images, HTML or code.
    """
    flat = " ".join(str(text).split())
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("://", ":&#47;&#47;"), ("`", "'")):
        flat = flat.replace(character, written)
    flat = re.sub(r"([\\\[\]|*~$])", r"\\\1", flat)
    # an underscore inside a word is none of Markdown's
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", flat)


def write_short_card(folder: str | os.PathLike, config, tags: Sequence[str] | None = None):
    """A card that says what this is, in the place of an empty form or of a card that described former weights."""
    path = os.path.join(folder, "README.md")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            found = file.read()
        if CARD_MARKER not in found and CARD_BLANK not in found:
            return
    listed = "".join(f"- {tag}\n" for tag in dict.fromkeys(["urm", "reward-model", "uncertainty", *(tags or [])]))
    attributes = ", ".join(map(escape_markdown, config.attributes))
    text = f"""---
library_name: transformers
pipeline_tag: text-classification
tags:
{listed}---

{CARD_MARKER}

# Uncertainty-aware reward model

Predicts mean and standard deviation of human ratings ({attributes}) of the last answer of a
conversation, and from them a reward: `logits`, with `reward_std`. `AutoModel.from_pretrained(repo, revision=commit,
trust_remote_code=True)` loads it. It reads conversations in the chat template it was trained on; if this repository
has no tokenizer, that of its base model has it. Rewards compare answers to one prompt.
"""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
