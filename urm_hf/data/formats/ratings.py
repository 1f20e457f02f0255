"""
Ratings and preferences of several attributes (datasets of huggingface.co).

| format | rows |
|---|---|
| helpsteer2 | nvidia/HelpSteer2, and nvidia/HelpSteer: one answer, five ratings from 0 to 4 |
| helpsteer2-preference | its folder `preference`: `preference_strength` from -3 (`response_1`) to 3 (`response_2`) |
| helpsteer3 | nvidia/HelpSteer3, `preference`: `overall_preference` from -3 to 3, `context` messages |
| ultrafeedback | openbmb/UltraFeedback: four completions with nested annotations |

Confirmed in the dataset card of HelpSteer3 and in public loaders of all. Not confirmed: the columns of HelpSteer3's
`feedback` and `edit` parts beyond `context`, `feedback` and the edited answers; they are refused.
"""

from collections.abc import Mapping
from typing import Any

from urm_hf.data.content import split_turns
from urm_hf.data.formats.choices import choose, choose_by_strength
from urm_hf.data.formats.format import Format, Row, fits_any_values, keep_row, replace_columns
from urm_hf.data.formats.turns import build_prompt, read_question
from urm_hf.data.formats.values import decode_list, is_list_of, is_messages, require

HELPSTEER2 = "hf.co/datasets/nvidia/HelpSteer2"
HELPSTEER3 = "hf.co/datasets/nvidia/HelpSteer3"
HELPSTEER2_RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def read_helpsteer2_preference(row: Row) -> dict[str, Any]:
    better = choose_by_strength(row, "preference_strength")
    columns = ("prompt", "response_1", "response_2")
    pair = choose(row, row["prompt"], columns[1:], better, columns, "`preference_strength` is 0")
    return {**pair, "prompt": split_turns(require(row, "prompt", str))}


def read_helpsteer3(row: Row) -> dict[str, Any]:
    context = row["context"]
    prompt = list(decode_list(context)) if is_messages(context) else build_prompt(read_question(row, "context"))
    better = choose_by_strength(row, "overall_preference")
    columns = ("context", "response1", "response2")
    return choose(row, prompt, columns[1:], better, columns, "`overall_preference` is 0")


def read_ultrafeedback(row: Row) -> dict[str, Any]:
    """
    Candidates with `ratings` ("N/A" is null) and their mean as `score`.

    The system prompt that some completions had is left in the candidate: whoever rated them did not see it.
    """
    completions = require(row, "completions", list)
    candidates = [_read_completion(completion, number) for number, completion in enumerate(completions)]
    return replace_columns(
        row,
        ("instruction", "completions"),
        {"prompt": build_prompt(read_question(row, "instruction")), "candidates": candidates},
    )


def refuse_helpsteer3(row: Row) -> dict[str, Any]:
    raise ValueError(
        "these are rows of HelpSteer3's `feedback` or `edit` part, which say how an answer should change and not "
        "which is better; load its `preference` part."
    )


def _read_completion(completion: Any, number: int) -> dict[str, Any]:
    where = f"`completions`[{number}]"
    if not isinstance(completion, Mapping) or not isinstance(completion.get("response"), str):
        raise ValueError(f"{where} must be an object with a `response` that is text, got {completion!r:.60}.")
    annotations = completion.get("annotations")
    if not isinstance(annotations, Mapping):
        raise ValueError(f"{where} has no `annotations` that map attributes to ratings.")
    ratings = {
        name: _read_rating(note, f"{where}.annotations.{name}")
        for name, note in annotations.items()
        if note is not None
    }
    own = {name: value for name, value in completion.items() if name != "annotations"}
    given = [rating for rating in ratings.values() if rating is not None]
    return {**own, "ratings": ratings, "score": sum(given) / len(given) if given else None}


def _read_rating(note: Any, where: str) -> float | None:
    rating = note.get("Rating") if isinstance(note, Mapping) else None
    if rating in (None, "N/A"):
        return None
    try:
        return float(rating)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where} has the Rating {rating!r:.40}, which is not a number.") from None


def _has_annotations(row: Row) -> bool:
    completions = decode_list(row["completions"])
    return is_list_of(completions, Mapping) and all("annotations" in completion for completion in completions)


FORMATS = (
    Format("helpsteer2", HELPSTEER2, ("prompt", "response", *HELPSTEER2_RATINGS), fits_any_values, keep_row),
    Format(
        "helpsteer2-preference",
        HELPSTEER2,
        ("prompt", "response_1", "response_2", "preference_strength"),
        fits_any_values,
        read_helpsteer2_preference,
    ),
    Format(
        "helpsteer3",
        HELPSTEER3,
        ("context", "response1", "response2", "overall_preference"),
        fits_any_values,
        read_helpsteer3,
    ),
    Format("helpsteer3-feedback", HELPSTEER3, ("context", "feedback"), fits_any_values, refuse_helpsteer3),
    Format("helpsteer3-edit", HELPSTEER3, ("context", "edited_response"), fits_any_values, refuse_helpsteer3),
    Format(
        "helpsteer3-edit-quality",
        HELPSTEER3,
        ("context", "good_edited_response", "bad_edited_response"),
        fits_any_values,
        refuse_helpsteer3,
    ),
    Format(
        "ultrafeedback",
        "hf.co/datasets/openbmb/UltraFeedback",
        ("instruction", "completions"),
        _has_annotations,
        read_ultrafeedback,
    ),
)
