"""
Benchmarks of reward models (datasets of huggingface.co, if nothing else is said). A prompt of plain text is what a
user asks in all of them.

| format | rows |
|---|---|
| rewardbench | allenai/reward-bench: pairs, told by `chosen_model`, `rejected_model`, `subset` |
| rewardbench2 | allenai/reward-bench-2: lists of right and wrong answers, `num_correct` |
| rmbench | THU-KEG/RM-Bench: three right and three wrong answers, from plain to elaborate |
| rmbench-pairs | the same, a pair of them in a row: `chosen_style`, `rejected_style` |
| judgebench | ScalerLab/JudgeBench: `label` is "A>B", "B>A" or "A=B" |
| llmbar | github.com/princeton-nlp/LLMBar: `label` is 1 or 2, the number of the better output |

Confirmed in the benchmarks' own repositories and in the rows that were published with them.
"""

from typing import Any

from urm_hf.data.formats.choices import choose
from urm_hf.data.formats.format import Format, Row, fits_any_values
from urm_hf.data.formats.trl import is_whole_pair, read_pair
from urm_hf.data.formats.turns import build_prompt, read_question
from urm_hf.data.formats.values import decode_list, is_list_of, is_messages, require_choice

HUB = "hf.co/datasets/"
JUDGEBENCH_LABELS = {"A>B": 0, "B>A": 1, "A=B": None}


def read_asked(row: Row) -> dict[str, Any]:
    """The row with its prompt as a user's turn."""
    if is_messages(row["prompt"]):
        return read_pair(row) if is_whole_pair(row) else dict(row)
    return {**row, "prompt": build_prompt(read_question(row, "prompt"))}


def read_judgebench(row: Row) -> dict[str, Any]:
    better = require_choice(row, "label", JUDGEBENCH_LABELS)
    answers = ("response_A", "response_B")
    prompt = build_prompt(read_question(row, "question"))
    return choose(row, prompt, answers, better, ("question", *answers), f"`label` is {row['label']!r}")


def read_llmbar(row: Row) -> dict[str, Any]:
    better = require_choice(row, "label", {1: 0, 2: 1})
    answers = ("output_1", "output_2")
    return choose(row, build_prompt(read_question(row, "input")), answers, better, ("input", *answers), "")


def _holds_answers(row: Row) -> bool:
    return all(is_list_of(row[side], str) for side in ("chosen", "rejected"))


def _is_three_by_three(row: Row) -> bool:
    if not _holds_answers(row) or "num_correct" in row:
        return False
    return len(decode_list(row["chosen"])) == len(decode_list(row["rejected"])) == 3


_PAIR = ("prompt", "chosen", "rejected")

FORMATS = (
    Format(
        "rewardbench",
        HUB + "allenai/reward-bench",
        (*_PAIR, "chosen_model", "rejected_model", "subset"),
        lambda row: not _holds_answers(row),
        read_asked,
    ),
    Format(
        "rewardbench2",
        HUB + "allenai/reward-bench-2",
        _PAIR,
        lambda row: _holds_answers(row) and not _is_three_by_three(row),
        read_asked,
        ("num_correct", "num_incorrect", "total_completions", "subset", "id"),
    ),
    Format("rmbench", HUB + "THU-KEG/RM-Bench", _PAIR, _is_three_by_three, read_asked, ("domain", "id")),
    Format(
        "rmbench-pairs",
        HUB + "THU-KEG/RM-Bench",
        (*_PAIR, "chosen_style", "rejected_style"),
        fits_any_values,
        read_asked,
        ("difficulty", "subset", "domain"),
    ),
    Format(
        "judgebench",
        HUB + "ScalerLab/JudgeBench",
        ("question", "response_A", "response_B", "label"),
        fits_any_values,
        read_judgebench,
    ),
    Format(
        "llmbar",
        "github.com/princeton-nlp/LLMBar",
        ("input", "output_1", "output_2", "label"),
        fits_any_values,
        read_llmbar,
    ),
)
