"""
Pairs of a better and a worse answer, chosen by people or models (datasets of huggingface.co).

| format | rows |
|---|---|
| ultrafeedback-argilla | argilla/ultrafeedback-binarized-preferences-cleaned |
| ultrafeedback-argilla-text | argilla/ultrafeedback-binarized-preferences |
| ultrafeedback-h4 | HuggingFaceH4/ultrafeedback_binarized: `messages` is `chosen` once more |
| tulu3 | allenai/llama-3.1-tulu-3-8b-preference-mixture |
| hh-rlhf | Anthropic/hh-rlhf: whole conversations as text with "\\n\\nHuman:", "\\n\\nAssistant:" |
| skywork | Skywork/Skywork-Reward-Preference-80K-v0.2: whole conversations, no prompt |
| pku-saferlhf | PKU-Alignment/PKU-SafeRLHF: two ids, of the better and of the safer answer |
| shp | stanfordnlp/SHP: `labels` is 1 where `human_ref_A` is preferred |
| orca-dpo | Intel/orca_dpo_pairs: `system`, `question` |
| orca-distilabel | argilla/distilabel-intel-orca-dpo-pairs: the same, `input` |
| alpaca-preference | LLaMA-Factory, data/README.md: `instruction`, `input`, `history`, `system` |
| votes | `response_a`, `response_b` and `preferred`: "a", "b" or "tie" |

Confirmed in dataset cards or public loaders, but for these, whose columns are from memory: tulu3 (`chosen_rating`,
`rejected_rating`) and ultrafeedback-argilla-text (`chosen_avg_rating`, `rejected_avg_rating`). Where they are absent
nothing else changes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from urm_hf.data.formats.choices import check_ratings, choose
from urm_hf.data.formats.format import Format, Row, fits_any_values, keep_row, replace_columns
from urm_hf.data.formats.trl import is_system_prompt, is_whole_pair, read_pair
from urm_hf.data.formats.turns import (
    build_prompt,
    is_human_assistant,
    join_instruction,
    read_question,
    split_human_assistant,
)
from urm_hf.data.formats.values import decode_list, is_messages, is_text, require, require_choice

HUB = "hf.co/datasets/"
TIES = ("tie", "both", "neither", "equal", "same", "draw")
SIDES = {0: 0, 1: 1, "0": 0, "1": 1}
PKU_IDS = ("better_response_id", "safer_response_id")


def read_rated_pair(row: Row, ratings: tuple[str, str]) -> dict[str, Any]:
    return check_ratings(row, read_pair(row), ratings)


def read_h4(row: Row) -> dict[str, Any]:
    if decode_list(row["messages"]) != decode_list(row["chosen"]):
        raise ValueError("`messages` is another conversation than `chosen`; leave one of them out.")
    pair = {name: value for name, value in row.items() if name != "messages"}
    return check_ratings(row, read_pair(pair), ("score_chosen", "score_rejected"))


def read_text_pair(row: Row) -> dict[str, Any]:
    """Instruction, `chosen_response` and `rejected_response`."""
    pair = {side: require(row, f"{side}_response", str) for side in ("chosen", "rejected")}
    columns = ("instruction", "input", "chosen_response", "rejected_response")
    pair = replace_columns(row, columns, {"prompt": build_prompt(join_instruction(row)), **pair})
    return check_ratings(row, pair, ("chosen_avg_rating", "rejected_avg_rating"))


def read_hh(row: Row) -> dict[str, Any]:
    """Whole conversations as text; a `prompt`, where there is one, is what both begin with."""
    sides = {side: split_human_assistant(require(row, side, str), side) for side in ("chosen", "rejected")}
    if row.get("prompt") is not None:
        prompt = require(row, "prompt", str)
        if not all(row[side].lstrip().startswith(prompt.strip()) for side in sides):
            raise ValueError("`chosen` and `rejected` do not begin with `prompt`. Correct it, or leave it out.")
    return replace_columns(row, ("prompt", *sides), sides)


def read_pku(row: Row, ids: tuple[str, ...] = PKU_IDS) -> dict[str, Any]:
    """
    The better answer by the ids, which must agree: a helpful answer is often the less safe one.

    Args:
        ids (`tuple[str, ...]`): columns with the number of the better answer.
    """
    choices = {name: require_choice(row, name, SIDES) for name in ids if row.get(name) is not None}
    if not choices:
        raise ValueError(f"none of {', '.join(ids)} is there, so that it is not known which answer is better.")
    answers, prompt = ("response_0", "response_1"), build_prompt(read_question(row, "prompt"))
    read = ("prompt", *answers)
    if len(set(choices.values())) == 1:
        return choose(row, prompt, answers, next(iter(choices.values())), read, "")
    told = " and ".join(f"`{name}` is {side}" for name, side in choices.items())
    return choose(row, prompt, answers, None, read, f"{told}: choose with the format pku-saferlhf-better or -safer")


def read_shp(row: Row) -> dict[str, Any]:
    better = require_choice(row, "labels", {1: 0, 0: 1})
    answers = ("human_ref_A", "human_ref_B")
    prompt = build_prompt(read_question(row, "history"))
    return choose(row, prompt, answers, better, ("history", *answers), "")


def read_question_pair(row: Row, question: str) -> dict[str, Any]:
    """A pair whose question and system prompt stand in columns of their own."""
    prompt = build_prompt(read_question(row, question), row.get("system"))
    return replace_columns(row, (question, "system"), {"prompt": prompt})


def read_alpaca_pair(row: Row) -> dict[str, Any]:
    prompt = build_prompt(join_instruction(row), row.get("system"), row.get("history"))
    return replace_columns(row, ("instruction", "input", "system", "history"), {"prompt": prompt})


def read_votes(row: Row, answers: tuple[str, str], column: str) -> dict[str, Any]:
    """A prompt, two answers, and which is preferred: by its number, letter or column."""
    value = require(row, column)
    key = value.strip().lower() if isinstance(value, str) else value
    choices = {0: 0, 1: 1, "0": 0, "1": 1, "a": 0, "b": 1}
    choices |= {name.lower(): side for side, name in enumerate(answers)}
    better = None if isinstance(key, str) and key.startswith(TIES) else require_choice({column: key}, column, choices)
    prompt = row["prompt"] if is_messages(row["prompt"]) else build_prompt(read_question(row, "prompt"))
    return choose(row, prompt, answers, better, ("prompt", *answers), f"`{column}` is {value!r}")


def _sides(test: Callable[[Any], bool], quantify: Callable = all) -> Callable[[Row], bool]:
    return lambda row: quantify(test(row[side]) for side in ("chosen", "rejected"))


def _has_system_prompt(row: Row) -> bool:
    return "system" not in row or is_system_prompt(row)


def _is_skywork(row: Row) -> bool:
    return "prompt" not in row and _sides(is_messages)(row)


_PAIR = ("prompt", "chosen", "rejected")
_PKU = ("prompt", "response_0", "response_1")

FORMATS = (
    Format(
        "ultrafeedback-argilla",
        HUB + "argilla/ultrafeedback-binarized-preferences-cleaned",
        (*_PAIR, "chosen-rating", "rejected-rating"),
        is_whole_pair,
        partial(read_rated_pair, ratings=("chosen-rating", "rejected-rating")),
    ),
    Format(
        "ultrafeedback-argilla-text",
        HUB + "argilla/ultrafeedback-binarized-preferences",
        ("instruction", "chosen_response", "rejected_response"),
        fits_any_values,
        read_text_pair,
        ("input", "chosen_avg_rating", "rejected_avg_rating"),
    ),
    Format(
        "ultrafeedback-h4",
        HUB + "HuggingFaceH4/ultrafeedback_binarized",
        (*_PAIR, "messages", "score_chosen", "score_rejected"),
        is_whole_pair,
        read_h4,
    ),
    Format(
        "tulu3",
        HUB + "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        (*_PAIR, "source"),
        is_whole_pair,
        partial(read_rated_pair, ratings=("chosen_rating", "rejected_rating")),
        ("chosen_rating", "rejected_rating"),
    ),
    Format(
        "hh-rlhf", HUB + "Anthropic/hh-rlhf", ("chosen", "rejected"), _sides(is_human_assistant), read_hh, ("prompt",)
    ),
    Format(
        "skywork",
        HUB + "Skywork/Skywork-Reward-Preference-80K-v0.2",
        ("chosen", "rejected", "source"),
        _is_skywork,
        keep_row,
    ),
    Format(
        "pku-saferlhf",
        HUB + "PKU-Alignment/PKU-SafeRLHF",
        _PKU,
        lambda row: any(name in row for name in PKU_IDS),
        read_pku,
        PKU_IDS,
    ),
    *(
        Format(
            f"pku-saferlhf-{name.partition('_')[0]}",
            HUB + "PKU-Alignment/PKU-SafeRLHF",
            (*_PKU, name),
            fits_any_values,
            partial(read_pku, ids=(name,)),
            detected=False,
        )
        for name in PKU_IDS
    ),
    Format(
        "shp", HUB + "stanfordnlp/SHP", ("history", "human_ref_A", "human_ref_B", "labels"), fits_any_values, read_shp
    ),
    Format(
        "orca-dpo",
        HUB + "Intel/orca_dpo_pairs",
        ("question", "chosen", "rejected"),
        _has_system_prompt,
        partial(read_question_pair, question="question"),
        ("system",),
    ),
    Format(
        "orca-distilabel",
        HUB + "argilla/distilabel-intel-orca-dpo-pairs",
        ("input", "chosen", "rejected"),
        lambda row: is_text(row["input"]) and "instruction" not in row and _has_system_prompt(row),
        partial(read_question_pair, question="input"),
        ("system",),
    ),
    Format(
        "alpaca-preference",
        "github.com/hiyouga/LLaMA-Factory, data/README.md",
        ("instruction", "chosen", "rejected"),
        fits_any_values,
        read_alpaca_pair,
        ("input", "history", "system"),
    ),
    Format(
        "votes",
        "two answers and a vote",
        ("prompt", "response_a", "response_b", "preferred"),
        fits_any_values,
        partial(read_votes, answers=("response_a", "response_b"), column="preferred"),
    ),
)
