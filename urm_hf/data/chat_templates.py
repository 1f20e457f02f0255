"""Chat templates are programs that come with a tokenizer: this bounds what they may cost."""

import sys
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.utils import Namespace
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from urm_hf.modeling.tokenizer_urm import load_tokenizer

LONGEST_TEMPLATE = 2**20  # characters
LARGEST_CONSTANT = 100_000  # the sandbox refuses a longer `range`; the largest numbers that templates need are years
LARGEST_VALUE = 10**7  # characters of a text, or entries of a list
MOST_STEPS = 100_000  # lines of Python for one short conversation; the longest templates need some hundred
SHORT = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Po."}]


class EndlessTemplate(Exception):
    """A chat template took more steps than it may."""


def load_chat_tokenizer(name: str, trust_remote_code: bool | None = False, **hub: Any) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a repository or folder, whose chat templates come to an end.

    Args: as of `urm_hf.modeling.tokenizer_urm.load_tokenizer`.

    Raises:
        ValueError: its files are damaged, or a template of it may run for ever.
    """
    tokenizer = load_tokenizer(name, trust_remote_code, **hub)
    templates = tokenizer.chat_template
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        if template is not None:
            check_chat_template(template, tokenizer, f"The chat template of {name}")
    return tokenizer


def check_chat_template(template: Any, tokenizer: PreTrainedTokenizerBase, what: str):
    """
    Refuses a template that runs for ever.

    The sandbox that templates run in bounds what they may touch, not how long they run. Constants are looked at, and
    the steps are counted that a short conversation takes: nested loops and macros that call themselves show there. A
    template whose work grows with the conversation, faster than the conversation, does not.

    Args:
        template (`str`): it must be a text. what (`str`): what an error calls it.

    Raises:
        ValueError: says what is in it.
    """
    if not isinstance(template, str) or len(template) > LONGEST_TEMPLATE:
        raise ValueError(f"{what} must be a text of at most {LONGEST_TEMPLATE:,} characters.")
    try:
        words = list(Environment().lex(template))
    except TemplateSyntaxError as error:
        raise ValueError(f"{what} is damaged, line {error.lineno}: {error.message}.") from error
    for line, kind, text in words:
        # a product or power of constants is computed while the template is compiled, before anything can be counted
        if (kind == "operator" and text == "**") or (kind in ("integer", "float") and _is_large(text)):
            raise ValueError(f"{what} may run for ever: it has {text:.20} in line {line}.")
    try:
        _render_counted(template, tokenizer)
    except (EndlessTemplate, MemoryError, RecursionError) as error:
        raise ValueError(f"{what} runs for ever, or takes all memory ({type(error).__name__}).") from error
    except Exception:
        pass


def _is_large(number: str) -> bool:
    digits = number.replace("_", "")
    return not digits.isdecimal() or len(digits) > 12 or int(digits) > LARGEST_CONSTANT


def _render_counted(template: str, tokenizer: PreTrainedTokenizerBase):
    """Renders a short conversation as transformers would, and raises `EndlessTemplate` after too many steps."""
    environment = _counting_environment()
    steps, former = 0, sys.gettrace()

    def count(frame, event, argument):
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS:
            raise EndlessTemplate
        if frame.f_code.co_filename == "<template>":
            _check_values(frame.f_locals.values())
        return count

    sys.settrace(count)  # of this thread alone
    try:
        environment.from_string(template).render(
            messages=SHORT, tools=None, documents=None, add_generation_prompt=False, **tokenizer.special_tokens_map
        )
    finally:
        sys.settrace(former)


def _counting_environment() -> Environment:
    """The sandbox of transformers, whose products are looked at before they are computed."""
    names = ("_cached_compile_jinja_template", "_compile_jinja_template")  # of transformers 5, of 4
    compile_template = next(filter(None, (getattr(chat_template_utils, name, None) for name in names)))
    environment: Any = compile_template("").environment.overlay()
    environment.intercepted_binops = frozenset("*")  # nor are they computed while the template is compiled

    def multiply(context, operator: str, left: Any, right: Any) -> Any:
        for value, times in ((left, right), (right, left)):
            if hasattr(value, "__len__") and len(value) * times > LARGEST_VALUE:
                raise EndlessTemplate
        return left * right

    environment.call_binop = multiply
    return environment


def _check_values(values: Any):
    """Texts and lists that a template keeps; one that doubles them in a loop has filled any memory after 40 rounds."""
    for value in values:
        if isinstance(value, Namespace):
            _check_values(object.__getattribute__(value, "_Namespace__attrs").values())
        elif isinstance(value, (str, list)) and len(value) > LARGEST_VALUE:
            raise EndlessTemplate
