"""
Invented rows in the exact shape of each known format, and what a canonical row of each holds.

Each entry: rows, the kind of canonical row, the turns before the answer, and the better and the worse answer or, of a
single conversation, its answer.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """Rows of a format. `ties`: rows of it that prefer no answer. `rated`: attributes that they rate."""

    format: str
    kind: str
    rows: list[dict[str, Any]]
    ties: list[dict[str, Any]] = ()  # type: ignore[assignment]
    rated: tuple[str, ...] = ()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _human(*texts: str) -> str:
    return "".join(f"\n\n{who}: {text}" for who, text in zip(("Human", "Assistant") * len(texts), texts, strict=False))


def _chat(question: str, answer: str) -> list[dict[str, str]]:
    return [user(question), assistant(answer)]


def _scored(text: str, score: float) -> dict[str, Any]:
    return {"response": text, "score": score}


def _notes(**ratings: str) -> dict[str, Any]:
    return {name: {"Rating": value, "Rationale": "because"} for name, value in ratings.items()}


RIVER, SEA = "Name a river.", "Name a sea."
CALL = [{"type": "function", "function": {"name": "find_river", "arguments": {"country": "Italy"}}}]
TOOLS = [{"type": "function", "function": {"name": "find_river", "parameters": {"type": "object", "properties": {}}}}]
LEVELS = {"helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 0}

EXAMPLES = [
    Example(
        "messages", "conversation", [{"messages": _chat(RIVER, "The Po.")}, {"messages": _chat(SEA, "The Aral.")}]
    ),
    Example("text", "conversation", [{"text": "A river is the Po."}, {"text": "A sea is the Aral."}]),
    Example("input-ids", "conversation", [{"input_ids": [1, 4, 7, 2]}, {"input_ids": [1, 5, 2]}]),
    Example(
        "prompt-completion",
        "conversation",
        [
            {"prompt": "A river is", "completion": " the Po."},
            {"prompt": [user(SEA)], "completion": [assistant("Aral.")]},
        ],
    ),
    Example(
        "prompt-response",
        "conversation",
        [
            {"prompt": RIVER, "response": "The Po.", "ratings": {"helpfulness": 3.0}},
            {"prompt": SEA, "response": "No.", "ratings": {"helpfulness": 1.0}},
        ],
        rated=("helpfulness",),
    ),
    Example(
        "system-prompt-response",
        "conversation",
        [
            {"system": "Be brief.", "prompt": RIVER, "response": "The Po."},
            {"system": "", "prompt": SEA, "response": "No."},
        ],
    ),
    Example(
        "preference",
        "pair",
        [
            {"prompt": "A river is", "chosen": " the Po.", "rejected": " a sea."},
            {"prompt": [user(SEA)], "chosen": [assistant("Aral.")], "rejected": [assistant("No.")]},
        ],
    ),
    Example(
        "preference-implicit",
        "pair",
        [
            {"chosen": _chat(RIVER, "The Po."), "rejected": _chat(RIVER, "No.")},
            {"chosen": "A sea is the Aral.", "rejected": "A sea is a hill."},
        ],
    ),
    Example(
        "system-preference",
        "pair",
        [
            {"system": "Be brief.", "prompt": RIVER, "chosen": "The Po.", "rejected": "No."},
            {"system": "", "prompt": SEA, "chosen": "The Aral.", "rejected": "None."},
        ],
    ),
    Example(
        "candidates",
        "candidates",
        [
            {
                "prompt": [user(RIVER)],
                "candidates": [{"response": "Po.", "score": 2}, {"response": "No.", "score": 1}],
            },
            {"prompt": [user(SEA)], "candidates": [{"response": "No.", "score": 0}, {"response": "Aral", "score": 1}]},
        ],
    ),
    Example("responses", "candidates", [{"prompt": RIVER, "responses": ["The Po.", "No."], "gold": [1, 0]}]),
    Example("completions", "candidates", [{"prompt": "A river is", "completions": [" the Po.", " a sea."]}]),
    Example(
        "system-messages",
        "conversation",
        [
            {"system": "Be brief.", "messages": _chat(RIVER, "The Po.")},
            {"system": "", "messages": _chat(SEA, "Aral.")},
        ],
    ),
    Example(
        "question",
        "conversation",
        [{"question": RIVER, "response": "The Po."}, {"system": "Be brief.", "question": SEA, "response": "Aral."}],
    ),
    Example("query", "candidates", [{"query": RIVER, "candidates": [_scored("No.", 1), _scored("The Po.", 2)]}]),
    Example("problem", "candidates", [{"problem": RIVER, "responses": ["The Po.", "No."]}]),
    Example("request", "conversation", [{"request": RIVER, "completion": "The Po."}]),
    Example("user_prompt", "conversation", [{"user_prompt": RIVER, "response": "The Po."}]),
    Example("instruction", "conversation", [{"instruction": "Translate.", "input": "il fiume", "response": "river"}]),
    Example("input", "conversation", [{"input": RIVER, "response": "The Po."}]),
    Example("context-preference", "pair", [{"context": [user(RIVER)], "chosen": "The Po.", "rejected": "No."}]),
    Example("prompts", "prompt", [{"prompt": RIVER}, {"prompt": [user(SEA)]}]),
    Example(
        "helpsteer2",
        "conversation",
        [
            {"prompt": RIVER, "response": "The Po.", **LEVELS},
            {"prompt": f"{RIVER}\n<extra_id_1>Assistant\nPo.\n<extra_id_1>User\n{SEA}", "response": "Aral.", **LEVELS},
        ],
        rated=tuple(LEVELS),
    ),
    Example(
        "helpsteer2-preference",
        "pair",
        [
            {
                "prompt": RIVER,
                "response_1": "No.",
                "response_2": "The Po.",
                "preference_strength": 2,
                "split": "train",
            },
            {"prompt": SEA, "response_1": "Aral.", "response_2": "No.", "preference_strength": -1, "split": "val"},
        ],
        ties=[{"prompt": SEA, "response_1": "Aral.", "response_2": "Red.", "preference_strength": 0, "split": "val"}],
    ),
    Example(
        "helpsteer3",
        "pair",
        [
            {
                "domain": "general",
                "language": "english",
                "context": [user(RIVER), assistant("The Po."), user(SEA)],
                "response1": "None.",
                "response2": "The Aral.",
                "overall_preference": 3,
                "individual_preference": [{"score": 3, "reasoning": "It is one.", "feedback": None}],
            },
            {"context": [user(RIVER)], "response1": "The Po.", "response2": "No.", "overall_preference": -2},
        ],
        ties=[{"context": [user(RIVER)], "response1": "Po.", "response2": "Arno.", "overall_preference": 0}],
    ),
    Example(
        "ultrafeedback",
        "candidates",
        [
            {
                "source": "made",
                "instruction": RIVER,
                "models": ["a", "b"],
                "completions": [
                    {"model": "a", "response": "No.", "annotations": _notes(helpfulness="1", honesty="N/A")},
                    {"model": "b", "response": "The Po.", "annotations": _notes(helpfulness="5", honesty="4")},
                ],
            }
        ],
        rated=("helpfulness", "honesty"),
    ),
    Example(
        "ultrafeedback-argilla",
        "pair",
        [
            {
                "source": "made",
                "prompt": RIVER,
                "chosen": _chat(RIVER, "The Po."),
                "chosen-rating": 5.0,
                "chosen-model": "a",
                "rejected": _chat(RIVER, "No."),
                "rejected-rating": 2.5,
                "rejected-model": "b",
            }
        ],
        ties=[
            {
                "prompt": SEA,
                "chosen": _chat(SEA, "Aral."),
                "rejected": _chat(SEA, "No."),
                "chosen-rating": 3,
                "rejected-rating": 3,
            }
        ],
    ),
    Example(
        "ultrafeedback-argilla-text",
        "pair",
        [
            {
                "source": "made",
                "instruction": RIVER,
                "chosen_response": "The Po.",
                "rejected_response": "No.",
                "chosen_avg_rating": 5.0,
                "rejected_avg_rating": 1.5,
                "chosen_model": "a",
            }
        ],
    ),
    Example(
        "ultrafeedback-h4",
        "pair",
        [
            {
                "prompt": RIVER,
                "prompt_id": "0",
                "chosen": _chat(RIVER, "The Po."),
                "rejected": _chat(RIVER, "No."),
                "messages": _chat(RIVER, "The Po."),
                "score_chosen": 8.0,
                "score_rejected": 4.0,
            }
        ],
        ties=[
            {
                "prompt": SEA,
                "chosen": _chat(SEA, "Aral."),
                "rejected": _chat(SEA, "No."),
                "messages": _chat(SEA, "Aral."),
                "score_chosen": 6.0,
                "score_rejected": 6.0,
            }
        ],
    ),
    Example(
        "tulu3",
        "pair",
        [
            {
                "id": "0",
                "source": "made",
                "prompt": SEA,
                "chosen": [user(RIVER), assistant("The Po."), user(SEA), assistant("The Aral.")],
                "rejected": [user(RIVER), assistant("The Po."), user(SEA), assistant("No.")],
                "chosen_rating": 4.0,
                "rejected_rating": 2.0,
            }
        ],
    ),
    Example(
        "hh-rlhf",
        "pair",
        [
            {"chosen": _human(RIVER, "The Po."), "rejected": _human(RIVER, "No.")},
            {"chosen": _human("Hi", "Hello.", SEA, "Aral."), "rejected": _human("Hi", "Hello.", SEA, "No.")},
        ],
    ),
    Example(
        "skywork",
        "pair",
        [{"chosen": _chat(RIVER, "The Po."), "rejected": _chat(RIVER, "No."), "source": "magpie_ultra"}],
    ),
    Example(
        "pku-saferlhf",
        "pair",
        [
            {
                "prompt": RIVER,
                "response_0": "No.",
                "response_1": "The Po.",
                "is_response_0_safe": True,
                "is_response_1_safe": True,
                "better_response_id": 1,
                "safer_response_id": 1,
            }
        ],
    ),
    Example(
        "shp",
        "pair",
        [
            {
                "history": RIVER,
                "human_ref_A": "The Po.",
                "human_ref_B": "No.",
                "labels": 1,
                "score_A": 9,
                "score_B": 2,
            },
            {"history": SEA, "human_ref_A": "No.", "human_ref_B": "Aral.", "labels": 0, "score_A": 2, "score_B": 9},
        ],
    ),
    Example(
        "orca-dpo",
        "pair",
        [
            {"system": "Be brief.", "question": RIVER, "chosen": "The Po.", "rejected": "No."},
            {"system": "", "question": SEA, "chosen": "The Aral.", "rejected": "None."},
        ],
    ),
    Example(
        "orca-distilabel",
        "pair",
        [{"system": "Be brief.", "input": RIVER, "chosen": "The Po.", "rejected": "No.", "status": "unchanged"}],
    ),
    Example(
        "alpaca-preference",
        "pair",
        [{"instruction": "Translate.", "input": "il fiume", "chosen": "the river", "rejected": "the sea"}],
    ),
    Example(
        "votes",
        "pair",
        [
            {"prompt": RIVER, "response_a": "The Po.", "response_b": "No.", "preferred": "a"},
            {"prompt": SEA, "response_a": "No.", "response_b": "Aral.", "preferred": "response_b"},
        ],
        ties=[{"prompt": SEA, "response_a": "Red.", "response_b": "Aral.", "preferred": "tie"}],
    ),
    Example(
        "nectar",
        "candidates",
        [
            {
                "prompt": _human(RIVER, ""),
                "answers": [
                    {"answer": "No.", "model": "a", "rank": 2.0},
                    {"answer": "The Po.", "model": "b", "rank": 1.0},
                ],
                "turns": 1,
                "num_responses": 2,
            }
        ],
    ),
    Example(
        "mix-instruct",
        "candidates",
        [
            {
                "id": "made/0",
                "instruction": "Translate.",
                "input": "il fiume",
                "candidates": [
                    {"model": "a", "text": "the river", "scores": {"bartscore": -1.0}},
                    {"model": "b", "text": "the sea", "scores": {"bartscore": -3.0}},
                ],
            }
        ],
    ),
    Example(
        "pairrm-dpo",
        "pair",
        [
            {
                "prompt": RIVER,
                "chosen": _chat(RIVER, "The Po."),
                "rejected": _chat(RIVER, "No."),
                "all_generated_responses": ["No.", "The Po."],
                "all_rm_scores": [-1.0, 2.0],
            }
        ],
    ),
    Example(
        "distilabel",
        "candidates",
        [{"instruction": RIVER, "generations": ["No.", "The Po."], "ratings": [1, 5], "rationales": ["-", "+"]}],
        rated=("rating",),
    ),
    Example(
        "rewardbench",
        "pair",
        [
            {
                "id": 1,
                "prompt": RIVER,
                "chosen": "The Po.",
                "chosen_model": "a",
                "rejected": "No.",
                "rejected_model": "b",
                "subset": "alpacaeval-easy",
            }
        ],
    ),
    Example(
        "rewardbench2",
        "answers",
        [
            {
                "id": "0",
                "prompt": RIVER,
                "chosen": ["The Po."],
                "rejected": ["No.", "A sea.", "None."],
                "num_correct": 1,
                "num_incorrect": 3,
                "total_completions": 4,
                "models": ["a", "b", "c", "d"],
                "subset": "Factuality",
            }
        ],
    ),
    Example(
        "rmbench",
        "answers",
        [
            {
                "id": 0,
                "prompt": RIVER,
                "chosen": ["Po.", "The Po.", "**The Po**."],
                "rejected": ["No.", "None.", "**None**."],
                "domain": "chat",
            }
        ],
    ),
    Example(
        "judgebench",
        "pair",
        [
            {"pair_id": "0", "question": RIVER, "response_A": "The Po.", "response_B": "No.", "label": "A>B"},
            {"pair_id": "1", "question": SEA, "response_A": "No.", "response_B": "Aral.", "label": "B>A"},
        ],
        ties=[{"pair_id": "2", "question": SEA, "response_A": "Red.", "response_B": "Aral.", "label": "A=B"}],
    ),
    Example(
        "llmbar",
        "pair",
        [{"input": RIVER, "output_1": "No.", "output_2": "The Po.", "label": 2}],
    ),
    Example(
        "alpaca",
        "conversation",
        [
            {"instruction": "Translate.", "input": "il fiume", "output": "the river"},
            {
                "instruction": SEA,
                "input": "",
                "output": "Aral.",
                "system": "Be brief.",
                "history": [[RIVER, "The Po."]],
            },
        ],
    ),
    Example("alpaca-pair", "pair", [{"instruction": RIVER, "input": "", "output": ["The Po.", "No."]}]),
    Example(
        "sharegpt",
        "conversation",
        [
            {
                "conversations": [{"from": "human", "value": RIVER}, {"from": "gpt", "value": "The Po."}],
                "system": "Be brief.",
                "tools": "",
            },
            {"id": "1", "conversations": [{"from": "human", "value": SEA}, {"from": "gpt", "value": "Aral."}]},
        ],
    ),
    Example(
        "sharegpt-preference",
        "pair",
        [
            {
                "conversations": [{"from": "human", "value": RIVER}],
                "chosen": {"from": "gpt", "value": "The Po."},
                "rejected": {"from": "gpt", "value": "No."},
            }
        ],
    ),
    Example("conversation", "conversation", [{"model": "a", "conversation": _chat(RIVER, "The Po."), "turn": 1}]),
    Example(
        "alpaca-eval",
        "conversation",
        [{"dataset": "made", "instruction": RIVER, "output": "The Po.", "generator": "gpt4"}],
    ),
    Example(
        "arena",
        "pair",
        [
            {
                "question_id": "0",
                "model_a": "x",
                "model_b": "y",
                "winner": "model_b",
                "conversation_a": _chat(RIVER, "No."),
                "conversation_b": _chat(RIVER, "The Po."),
                "turn": 1,
            }
        ],
        ties=[
            {
                "model_a": "x",
                "model_b": "y",
                "winner": "tie (bothbad)",
                "conversation_a": _chat(RIVER, "No."),
                "conversation_b": _chat(RIVER, "None."),
            }
        ],
    ),
    Example(
        "arena-kaggle",
        "pair",
        [
            {
                "id": 1,
                "model_a": "x",
                "model_b": "y",
                "prompt": f'["{RIVER}", "{SEA}"]',
                "response_a": '["The Po.", "The Aral."]',
                "response_b": '["No.", "None."]',
                "winner_model_a": 1,
                "winner_model_b": 0,
                "winner_tie": 0,
            }
        ],
    ),
    Example(
        "xlam",
        "conversation",
        [
            {
                "id": 0,
                "query": RIVER,
                "answers": '[{"name": "find_river", "arguments": {"country": "Italy"}}]',
                "tools": '[{"name": "find_river", "parameters": {"country": {"type": "str"}}}]',
            }
        ],
    ),
]
