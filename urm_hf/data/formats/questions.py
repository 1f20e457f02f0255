"""
Rows in TRL's or this package's form, but with the question under another name: it is what a user says.

| format | rows |
|---|---|
| question, query, problem, request, user_prompt | the question in this column, answers as usual |
| instruction | the same, with `input` after it where there is one, as in alpaca |
| input, context | the same, where there is no `instruction` or `question` beside |
| query-preference, ... | the same with `chosen` and `rejected`; see also orca-dpo and alpaca-preference |

Answers as usual are `response` or `completion`, or a list in `candidates`, `responses` or `completions`. A
column `system` with a system prompt is read.
"""

from functools import partial
from typing import Any

from urm_hf.data.formats.format import Format, Row, replace_columns
from urm_hf.data.formats.trl import is_system_prompt
from urm_hf.data.formats.turns import build_prompt, join_instruction, read_question, with_system
from urm_hf.data.formats.values import decode_list, is_messages

# a question under another name than `prompt`
QUESTIONS = ("question", "query", "problem", "request", "user_prompt", "instruction")
CONTEXTS = ("input", "context")  # that are the question only where nothing else is
ONE_ANSWER = ("response", "completion", "candidates", "responses", "completions")


def read_asked_in(row: Row, question: str) -> dict[str, Any]:
    """The row with its question as the prompt, after its system prompt."""
    if is_messages(row[question]):
        prompt = with_system([dict(turn) for turn in decode_list(row[question])], row.get("system"))
    elif question == "instruction":
        prompt = build_prompt(join_instruction(row), row.get("system"))
    else:
        prompt = build_prompt(read_question(row, question), row.get("system"))
    read = (question, "system", "input") if question == "instruction" else (question, "system")
    return replace_columns(row, read, {"prompt": prompt})


def _is_answered(row: Row, question: str) -> bool:
    if row.get("prompt") is not None or ("system" in row and not is_system_prompt(row)):
        return False
    if question in CONTEXTS and any(row.get(other) is not None for other in QUESTIONS):
        return False
    sides = ("chosen", "rejected")
    return all(name in row for name in sides) or any(row.get(name) is not None for name in ONE_ANSWER)


def _with_answers(name: str, question: str, answers: tuple[str, ...]) -> Format:
    return Format(
        name,
        "TRL's forms, with the question in this column",
        (question, *answers),
        partial(_is_answered, question=question),
        partial(read_asked_in, question=question),
        ("system", "input", "tools") if question == "instruction" else ("system", "tools"),
    )


FORMATS = (
    *(_with_answers(question, question, ()) for question in (*QUESTIONS, *CONTEXTS)),
    *(
        _with_answers(f"{question}-preference", question, ("chosen", "rejected"))
        for question in ("query", "problem", "request", "user_prompt", "context")
    ),
)
