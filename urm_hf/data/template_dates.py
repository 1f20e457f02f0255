"""
Chat templates that print today's date: one date for all, or the reward of a conversation would change every day.

transformers gives templates a function `strftime_now`. Here its calls are replaced by one date, that which Llama's own
templates print where there is no clock; and a checkpoint that is trained or pushed gets it written into its template,
so that other tools see what this package trained on and scored with.
"""

import re
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
from jinja2 import nodes
from transformers import PreTrainedTokenizerBase

TEMPLATE_DATE = datetime(2024, 7, 26)
_CLOCK = "strftime_now"
_CALL = re.compile(rf"{_CLOCK}\(\s*(['\"])((?:(?!\1)[^\\])*)\1\s*\)")


def template_without_clock(
    tokenizer: PreTrainedTokenizerBase, tools: list[Any] | None = None, template: str | None = None
) -> dict[str, str]:
    """
    What to hand to `apply_chat_template`, so that it prints [`TEMPLATE_DATE`] and not today's; nothing for templates
    without a clock.

    Args:
        template (`str`, *optional*): one to use in place of the tokenizer's.
    """
    if _CLOCK not in (template or str(tokenizer.chat_template)):
        return {}
    return {"chat_template": fix_template_date(tokenizer.get_chat_template(template, tools))}


@cache
def fix_template_date(template: str) -> str:
    """
    The template with [`TEMPLATE_DATE`] in place of today's.

    Raises:
        ValueError: it uses its clock otherwise than with a format that stands in it.
    """
    fixed = _CALL.sub(lambda call: repr(TEMPLATE_DATE.strftime(call[2])), template)
    if _CLOCK in fixed and _reads_clock(fixed):
        raise ValueError(
            f"the chat template prints today's date in a way that cannot be fixed (`{_CLOCK}` without a format that "
            "stands in the template), so that rewards would change every day. Write a date into the template."
        )
    return fixed


def check_dates(tokenizer: PreTrainedTokenizerBase):
    """A ValueError if a chat template of the tokenizer prints today's date in a way that cannot be fixed."""
    for template in _templates(tokenizer).values():
        fix_template_date(template)


def fix_dates(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Writes the date into the tokenizer's chat templates; whether there was any to write."""
    before = tokenizer.chat_template
    fixed = {name: fix_template_date(template) for name, template in _templates(tokenizer).items()}
    if fixed:
        tokenizer.chat_template = fixed if isinstance(before, dict) else fixed["default"]
    return tokenizer.chat_template != before


def _templates(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        return templates
    return {"default": templates} if templates else {}


def _reads_clock(template: str) -> bool:
    """Whether the clock is called or handed on; asking whether it is defined is harmless."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    # transformers' own tag, which only marks what an assistant said
    parsed = environment.parse(re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template))
    asked = {id(test.node) for test in parsed.find_all(nodes.Test) if test.name in ("defined", "undefined")}
    return any(name.name == _CLOCK and id(name) not in asked for name in parsed.find_all(nodes.Name))
