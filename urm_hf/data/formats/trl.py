"""
The forms of TRL (https://huggingface.co/docs/trl/dataset_formats), and the ones of this package that are like them.

Rows in them are canonical: they are read as they are. Plain text in `prompt` and `completion`, `chosen` or `rejected`
is continued as text, which is TRL's standard form; the answer of an assistant to a user's turn is called `response`.
"""

from collections.abc import Callable
from typing import Any

from urm_hf.data.formats.format import Format, Messages, Row, fits_any_values, keep_row, replace_columns
from urm_hf.data.formats.turns import build_prompt, is_human_assistant, read_tools, split_shared, with_system
from urm_hf.data.formats.values import decode_list, is_list_of, is_messages, require

TRL = "huggingface.co/docs/trl/dataset_formats"
ANSWERS = ("response", "completion", "chosen", "rejected", "candidates", "responses", "completions", "messages")
SENTENCE_ENDS = (".", "!", "?", ":")


def is_system_prompt(row: Row) -> bool:
    """
    Whether the column `system` can be a system prompt, empty or not.

    Data with ratings call the system that wrote the answer so ("gpt-4", "Nucleus Decoding (p = 0.3)"): there it is one
    only if it is a sentence.
    """
    value = row["system"]
    if value is None or value == "":
        return True
    if not isinstance(value, str):
        return False
    words = value.split()
    if row.get("ratings") is None:
        return len(words) > 1 or value.rstrip().endswith(SENTENCE_ENDS)
    return len(words) > 7 or (len(words) > 1 and value.rstrip().endswith(SENTENCE_ENDS))


def read_messages_row(row: Row) -> dict[str, Any]:
    """Messages, with the tools that they may call as a list."""
    if row.get("tools") is None:
        return dict(row)
    return {**row, "tools": read_tools(row)}


def read_pair(row: Row) -> dict[str, Any]:
    """A pair with its prompt; whole conversations in `chosen` and `rejected` are cut to what follows the prompt."""
    for column in ("prompt", "chosen", "rejected"):
        require(row, column)
    if not is_whole_pair(row):
        return dict(row)
    prompt, chosen, rejected = split_shared(row["prompt"], decode_list(row["chosen"]), decode_list(row["rejected"]))
    return {**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def is_whole_pair(row: Row) -> bool:
    """Whether `chosen` and `rejected` are conversations that begin before the answer, beside a `prompt`."""
    return all(is_messages(row[side]) and _begins_with_question(row[side]) for side in ("chosen", "rejected"))


def _begins_with_question(value: Any) -> bool:
    return decode_list(value)[0]["role"] in ("system", "developer", "user")


def _is_implicit(row: Row) -> bool:
    return "prompt" not in row and not all(is_human_assistant(row[side]) for side in ("chosen", "rejected"))


def _read_implicit(row: Row) -> dict[str, Any]:
    marked = [side for side in ("chosen", "rejected") if is_human_assistant(row[side])]
    if marked:
        raise ValueError(f'only `{marked[0]}` marks its turns with "\\n\\nHuman:" and "\\n\\nAssistant:"; both must.')
    return dict(row)


def _is_pair(row: Row) -> bool:
    return not all(is_list_of(row[side], str) for side in ("chosen", "rejected"))


def _is_prompt_alone(row: Row) -> bool:
    return not any(name in row for name in ANSWERS)


def _prompt_turns(row: Row) -> Messages:
    """The prompt as messages, after the system prompt of a column of its own."""
    prompt = require(row, "prompt")
    if is_messages(prompt):
        return with_system([dict(turn) for turn in decode_list(prompt)], row["system"])
    return build_prompt(require(row, "prompt", str), row["system"])


def _read_with_system(row: Row) -> dict[str, Any]:
    return replace_columns(row, ("prompt", "system"), {"prompt": _prompt_turns(row)})


def _read_messages_with_system(row: Row) -> dict[str, Any]:
    if not is_messages(require(row, "messages")):
        raise ValueError(f"`messages` must be a list of turns, got {row['messages']!r:.60}.")
    messages = with_system([dict(turn) for turn in decode_list(row["messages"])], row["system"])
    return read_messages_row(replace_columns(row, ("messages", "system"), {"messages": messages}))


def _read_pair_with_system(row: Row) -> dict[str, Any]:
    if not is_whole_pair(row):
        return _read_with_system(row)
    pair = read_pair({name: value for name, value in row.items() if name != "system"})
    return {**pair, "prompt": with_system(pair["prompt"], row["system"])}


def _list_of_answers(column: str) -> Callable[[Row], bool]:
    return lambda row: isinstance(decode_list(row[column]), (list, tuple)) and not is_messages(row[column])


FORMATS = (
    Format("messages", TRL, ("messages",), fits_any_values, read_messages_row, ("tools",)),
    Format("text", TRL, ("text",), fits_any_values, keep_row),
    Format("input-ids", "token ids that you made yourself", ("input_ids",), fits_any_values, keep_row),
    Format("prompt-completion", TRL, ("prompt", "completion"), fits_any_values, keep_row, ("tools",)),
    Format("prompt-response", "as in HelpSteer2", ("prompt", "response"), fits_any_values, keep_row, ("tools",)),
    Format(
        "system-prompt-response",
        "the same, with the system prompt in a column of its own",
        ("system", "prompt", "response"),
        is_system_prompt,
        _read_with_system,
        ("tools",),
    ),
    Format("preference", TRL, ("prompt", "chosen", "rejected"), _is_pair, read_pair, ("tools",)),
    Format("preference-implicit", TRL, ("chosen", "rejected"), _is_implicit, _read_implicit, ("tools",)),
    Format(
        "system-preference",
        "the same, with the system prompt in a column of its own",
        ("system", "prompt", "chosen", "rejected"),
        lambda row: _is_pair(row) and is_system_prompt(row),
        _read_pair_with_system,
        ("tools",),
    ),
    Format(
        "system-messages",
        "the same as messages, with the system prompt in a column of its own",
        ("system", "messages"),
        is_system_prompt,
        _read_messages_with_system,
        ("tools",),
    ),
    *(
        Format(column, "lists of answers to one prompt", ("prompt", column), _list_of_answers(column), keep_row)
        for column in ("candidates", "responses", "completions")
    ),
    Format("prompts", "prompts without answers", ("prompt",), _is_prompt_alone, keep_row),
)
