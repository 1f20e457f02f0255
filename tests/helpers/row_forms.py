"""Pairs in the forms that data have, each with the ids that its two sides must have wherever it is read."""

from collections.abc import Callable
from typing import Any

from tests.helpers.tiny import tiny_tokenizer

# prints all that a turn may hold, so that nothing can be lost without a difference in the ids
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% if brief %}[brief]{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.name is defined %} {{ m.name }}{% endif %}\n"
    "{% if m.reasoning_content is defined %}<{{ m.reasoning_content }}>{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}({{ call.function | tojson }}){% endfor %}<|im_end|>\n{% endfor %}"
)
ASKED = {"role": "user", "content": "Weather in Rome?"}
YES, NO = ({"role": "assistant", "content": text} for text in ("Sunny, 20 degrees.", "No idea."))
SYSTEM = {"role": "system", "content": "Be brief."}
LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}


def full_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """An answer that calls a tool, and says nothing."""
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def parts(turn: dict[str, Any]) -> dict[str, Any]:
    return {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}


def chat(*turns: dict[str, Any], **given: Any) -> Callable[[Any], list[int]]:
    """The ids of the chat template."""
    return lambda tokenizer: list(tokenizer.apply_chat_template(list(turns), return_dict=True, **given)["input_ids"])


def text(content: str) -> Callable[[Any], list[int]]:
    """The ids of a text that is closed as TRL closes it."""
    return lambda tokenizer: tokenizer(content + tokenizer.eos_token, add_special_tokens=False)["input_ids"]


BOTH = (chat(ASKED, YES), chat(ASKED, NO))
WHOLE = {"chosen": [ASKED, YES], "rejected": [ASKED, NO]}
# a row, and the ids of its chosen and its rejected side
PAIRS: dict[str, tuple[dict[str, Any], tuple[Callable, Callable]]] = {
    "messages": ({"prompt": [ASKED], "chosen": [YES], "rejected": [NO]}, BOTH),
    "texts to messages": ({"prompt": [ASKED], "chosen": YES["content"], "rejected": NO["content"]}, BOTH),
    "whole conversations": (WHOLE, BOTH),
    "a prompt and whole conversations": (WHOLE | {"prompt": ASKED["content"]}, BOTH),
    "turns before whole conversations": (WHOLE | {"prompt": [ASKED]}, BOTH),
    "parts of content": ({"prompt": [parts(ASKED)], "chosen": [parts(YES)], "rejected": [parts(NO)]}, BOTH),
    "a question": (
        {"question": ASKED["content"], "chosen": YES["content"], "rejected": NO["content"]},
        BOTH,
    ),
    "a system prompt and a question": (
        {
            "system": SYSTEM["content"],
            "question": ASKED["content"],
            "chosen": YES["content"],
            "rejected": NO["content"],
        },
        (chat(SYSTEM, ASKED, YES), chat(SYSTEM, ASKED, NO)),
    ),
    "plain text": (
        {"prompt": "Rome is ", "chosen": "old.", "rejected": "new."},
        (text("Rome is old."), text("Rome is new.")),
    ),
    "plain text with its prompt": (
        {"chosen": "Rome is old.", "rejected": "Rome is new."},
        (text("Rome is old."), text("Rome is new.")),
    ),
    "tool calls": (
        {"prompt": [ASKED], "chosen": [call("weather", city="Rome")], "rejected": [call("delete", path="/")]},
        (chat(ASKED, call("weather", city="Rome")), chat(ASKED, call("delete", path="/"))),
    ),
    "other arguments": (
        {"prompt": [ASKED], "chosen": [call("search", query="cats", top=3)], "rejected": [call("search", query="a")]},
        (chat(ASKED, call("search", query="cats", top=3)), chat(ASKED, call("search", query="a"))),
    ),
    "reasoning": (
        {
            "prompt": [ASKED],
            "chosen": [YES | {"reasoning_content": "Look up."}],
            "rejected": [YES | {"reasoning_content": "Guess."}],
        },
        (
            chat(ASKED, YES | {"reasoning_content": "Look up."}),
            chat(ASKED, YES | {"reasoning_content": "Guess."}),
        ),
    ),
    "names": (
        {"prompt": [ASKED | {"name": "Ada"}], "chosen": [YES], "rejected": [NO]},
        (chat(ASKED | {"name": "Ada"}, YES), chat(ASKED | {"name": "Ada"}, NO)),
    ),
    "tools": (
        WHOLE | {"tools": [LOOK], "chat_template_kwargs": {"brief": True}},
        (
            chat(ASKED, YES, tools=[LOOK], brief=True),
            chat(ASKED, NO, tools=[LOOK], brief=True),
        ),
    ),
    "an answer after tools": (
        {
            "prompt": [ASKED, call("weather", city="Rome"), {"role": "tool", "content": "20C"}],
            "chosen": [YES],
            "rejected": [NO],
        },
        (
            chat(ASKED, call("weather", city="Rome"), {"role": "tool", "content": "20C"}, YES),
            chat(ASKED, call("weather", city="Rome"), {"role": "tool", "content": "20C"}, NO),
        ),
    ),
}
