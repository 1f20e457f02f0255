"""
Chats and instructions as they are logged or trained on (datasets of huggingface.co, if nothing else is said).

| format | rows |
|---|---|
| alpaca | LLaMA-Factory, data/README.md, and tatsu-lab/alpaca: `instruction`, `input`, `output`, `history`, `system` |
| alpaca-pair | the same with two answers in `output`, the better one first (LLaMA-Factory before July 2024) |
| sharegpt | LLaMA-Factory, data/README.md: `conversations` of turns with `from` and `value`, `system`, `tools` |
| sharegpt-preference | the same, with the two last turns in `chosen` and `rejected` |
| conversation | lmsys/lmsys-chat-1m: messages in `conversation` |
| alpaca-eval | github.com/tatsu-lab/alpaca_eval, model outputs: `instruction`, `output`, `generator` |
| arena | lmsys/chatbot_arena_conversations and mt_bench_human_judgments: two chats and `winner` |
| arena-kaggle | lmsys/lmsys-arena-human-preference-55k: lists of turns as JSON text |
| xlam | Salesforce/xlam-function-calling-60k: `query`, `tools` and calls in `answers` |

Confirmed in LLaMA-Factory's README, alpaca_eval's repository and public loaders of the arena; xlam from memory.
"""

from collections.abc import Mapping
from typing import Any

from urm_hf.data.formats.choices import choose
from urm_hf.data.formats.format import Format, Messages, Row, fits_any_values, replace_columns
from urm_hf.data.formats.preferences import TIES
from urm_hf.data.formats.turns import (
    build_prompt,
    join_instruction,
    read_calls,
    read_question,
    read_sharegpt,
    read_tools,
    split_shared,
    with_system,
)
from urm_hf.data.formats.values import decode_list, is_list_of, is_text, require

LLAMA_FACTORY = "github.com/hiyouga/LLaMA-Factory, data/README.md"
ALPACA = ("instruction", "input", "output", "system", "history")
WINNERS = {"model_a": 0, "model_b": 1}


def read_alpaca(row: Row) -> dict[str, Any]:
    prompt = build_prompt(join_instruction(row), row.get("system"), row.get("history"))
    return replace_columns(row, ALPACA, {"prompt": prompt, "response": require(row, "output", str)})


def read_alpaca_list(row: Row) -> dict[str, Any]:
    chosen, rejected = decode_list(row["output"])
    prompt = build_prompt(join_instruction(row), row.get("system"), row.get("history"))
    return replace_columns(row, ALPACA, {"prompt": prompt, "chosen": chosen, "rejected": rejected})


def read_chat(row: Row, column: str = "conversations") -> dict[str, Any]:
    messages = with_system(read_sharegpt(row[column], column), row.get("system"))
    return replace_columns(row, (column, "system", "tools"), {"messages": messages, **_tools(row)})


def read_conversation(row: Row) -> dict[str, Any]:
    return read_chat(row, "conversation")


def read_chat_pair(row: Row) -> dict[str, Any]:
    """Turns before the answer, and two turns that follow them."""
    prompt = with_system(read_sharegpt(row["conversations"], "conversations"), row.get("system"))
    sides = {side: read_sharegpt(_turns_of(row[side]), side) for side in ("chosen", "rejected")}
    columns = ("conversations", "chosen", "rejected", "system", "tools")
    return replace_columns(row, columns, {"prompt": prompt, **sides, **_tools(row)})


def read_arena(row: Row) -> dict[str, Any]:
    """Two whole chats, which share the user's first turn, and a vote."""
    names = ("conversation_a", "conversation_b")
    chats = [read_sharegpt(require(row, column), column) for column in names]
    prompt, *answers = split_shared(chats[0][:1], chats[0], chats[1], names)
    sides = dict(zip(names, answers, strict=True))
    better = _read_winner(row)
    return choose({**row, **sides}, prompt, tuple(sides), better, tuple(sides), f"`winner` is {row['winner']!r}")


def read_arena_kaggle(row: Row) -> dict[str, Any]:
    """Lists of the turns of each side, also as JSON text, and three columns of which one is 1."""
    questions, *sides = (_texts(row, column) for column in ("prompt", "response_a", "response_b"))
    chats = [_interleave(questions, answers) for answers in sides]
    prompt, *answers = split_shared(chats[0][:1], chats[0], chats[1], ("response_a", "response_b"))
    wins = {name: require(row, f"winner_{name}") for name in ("model_a", "model_b", "tie")}
    won = [name for name, value in wins.items() if str(value).strip() in ("1", "1.0", "True")]
    if len(won) != 1:
        raise ValueError(f"one of `winner_model_a`, `winner_model_b` and `winner_tie` must be 1, got {wins}.")
    row = {**row, "response_a": answers[0], "response_b": answers[1]}
    columns = ("response_a", "response_b")
    return choose(row, prompt, columns, WINNERS.get(won[0]), ("prompt", *columns), "`winner_tie` is 1")


def read_xlam(row: Row) -> dict[str, Any]:
    calls = read_calls(require(row, "answers"), "`answers`")
    answer = [{"role": "assistant", "content": "", "tool_calls": calls}]
    prompt = build_prompt(read_question(row, "query"))
    return replace_columns(row, ("query", "answers", "tools"), {"prompt": prompt, "response": answer, **_tools(row)})


def _tools(row: Row) -> dict[str, Any]:
    return {"tools": read_tools(row)} if read_tools(row) else {}


def _turns_of(value: Any) -> Any:
    """The turns in a column that holds one turn, several, or the text of the assistant's."""
    if isinstance(value, Mapping):
        return [value]
    if is_text(value):
        return [{"role": "assistant", "content": value}]
    return value


def _read_winner(row: Row) -> int | None:
    """0 or 1; None for a tie, of good answers or of bad ones."""
    winner = require(row, "winner", str)
    if winner in WINNERS:
        return WINNERS[winner]
    if winner.lower().startswith(TIES):
        return None
    raise ValueError(f"`winner` must be model_a, model_b or a tie, got {winner!r:.60}.")


def _texts(row: Row, column: str) -> list[str]:
    texts = decode_list(require(row, column))
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"`{column}` must be a list of texts, one for each turn, got {row[column]!r:.60}.")
    return texts


def _interleave(questions: list[str], answers: list[str]) -> Messages:
    if len(questions) != len(answers):
        raise ValueError(f"it has {len(questions)} questions and {len(answers)} answers; one is needed for each.")
    turns: Messages = []
    for question, answer in zip(questions, answers, strict=True):
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _is_sharegpt(row: Row) -> bool:
    return is_list_of(row["conversations"], Mapping)


def _has_two_outputs(row: Row) -> bool:
    return is_list_of(row["output"], str) and len(decode_list(row["output"])) == 2


FORMATS = (
    Format(
        "alpaca",
        LLAMA_FACTORY,
        ("instruction", "output"),
        lambda row: isinstance(row["output"], str),
        read_alpaca,
        ("input", "system", "history"),
    ),
    Format(
        "alpaca-pair",
        LLAMA_FACTORY,
        ("instruction", "output"),
        lambda row: isinstance(row["output"], list) and _has_two_outputs(row),
        read_alpaca_list,
        ("input", "system", "history"),
    ),
    Format("sharegpt", LLAMA_FACTORY, ("conversations",), _is_sharegpt, read_chat, ("system", "tools")),
    Format(
        "sharegpt-preference",
        LLAMA_FACTORY,
        ("conversations", "chosen", "rejected"),
        _is_sharegpt,
        read_chat_pair,
        ("system", "tools"),
    ),
    Format(
        "conversation",
        "hf.co/datasets/lmsys/lmsys-chat-1m",
        ("conversation",),
        lambda row: is_list_of(row["conversation"], Mapping),
        read_conversation,
        ("system", "tools"),
    ),
    Format(
        "alpaca-eval",
        "github.com/tatsu-lab/alpaca_eval",
        ("instruction", "output", "generator"),
        lambda row: isinstance(row["output"], str),
        read_alpaca,
        ("input",),
    ),
    Format(
        "arena",
        "hf.co/datasets/lmsys/chatbot_arena_conversations",
        ("conversation_a", "conversation_b", "winner"),
        fits_any_values,
        read_arena,
    ),
    Format(
        "arena-kaggle",
        "hf.co/datasets/lmsys/lmsys-arena-human-preference-55k",
        ("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"),
        fits_any_values,
        read_arena_kaggle,
    ),
    Format(
        "xlam",
        "hf.co/datasets/Salesforce/xlam-function-calling-60k",
        ("query", "answers", "tools"),
        fits_any_values,
        read_xlam,
    ),
)
