"""Reference scores: what a model says of a few fixed conversations, stored with it so that others can compare."""

import math
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.utils.sha import sha_fileobj

from urm_hf import __version__
from urm_hf.checkpoints.files import dump_json, read_json, write_file
from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.hub.folder import SCORES
from urm_hf.scoring.scorer import RewardScorer

FIELDS = ("reward", "reward_std", "attribute_means", "attribute_stds", "gating_weights", "reward_gap")
ATOL = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def _turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


CONVERSATIONS = {
    "a good answer": _turns(
        "Why is the sky blue?",
        "Air scatters short wavelengths of sunlight more than long ones, so blue light reaches us from all sides.",
    ),
    "a wrong answer": _turns("Why is the sky blue?", "Because it mirrors the sea. On land it is less blue."),
    "two turns": _turns(
        "Name a prime number above 20.",
        "23",
        "And the next one?",
        "29: between them 24, 26 and 28 are even, 25 is 5 x 5 and 27 is 3 x 9.",
    ),
    "code": _turns("Reverse a string in Python.", 'Slice it backwards:\n```python\n"abc"[::-1]  # "cba"\n```'),
    "another language": _turns(
        "Wie spät ist es in Tokio, wenn es in Köln 12 Uhr ist?", "19 Uhr, im Sommer 18 Uhr… 🕖"
    ),
    "nonsense": _turns("qzv lom trelk?", "Trelk lom, lom qzv qzv 21343 * 39414."),
}


def load_scorer(folder: Path, dtype: str = "float32", token: str | None = None) -> RewardScorer:
    """The model in a folder with the folder's own tokenizer; no code of the folder runs."""
    tokenizer = load_chat_tokenizer(str(folder))
    return RewardScorer(str(folder), tokenizer, dtype=dtype, token=token)


def score_reference(scorer: RewardScorer) -> list[dict[str, Any]]:
    """A row for each reference conversation: name, messages and the fields of its score, in full precision."""
    scores = scorer.score(list(CONVERSATIONS.values()))
    rows = []
    for (name, messages), score in zip(CONVERSATIONS.items(), scores, strict=True):
        fields = {key: score[key] for key in (*FIELDS, "n_tokens") if key in score}
        rows.append({"name": name, "messages": messages, **fields})
    return rows


def reference_scores(folder: Path, dtype: str = "float32", token: str | None = None) -> dict[str, Any]:
    """What `urm_reference_scores.json` holds: the rows of `score_reference`, and what they were computed with."""
    versions = {"urm_hf": __version__, "transformers": transformers.__version__, "torch": torch.__version__}
    rows = score_reference(load_scorer(folder, dtype, token))
    return {"dtype": dtype, "weights": weight_hashes(folder), "versions": versions, "conversations": rows}


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a folder, and of heads in an ensemble's."""
    hashes = {}
    inside = [name for name in read_json(folder / "config.json").get("members") or [] if name.startswith("./")]
    for path in sorted(path for part in [".", *inside] for path in (folder / part).glob("*.safetensors")):
        with open(path, "rb") as file:
            hashes[path.relative_to(folder).as_posix()] = sha_fileobj(file).hex()
    return hashes


def write_reference(folder: Path, scores: dict[str, Any]):
    """
    Writes `urm_reference_scores.json`.

    Raises:
        ValueError: a score is not finite; conversation and field are named.
    """
    path = folder / SCORES
    write_file(path, dump_json(scores, path, indent=1, ensure_ascii=False))


def largest_difference(stored: dict[str, Any], now: dict[str, Any]) -> tuple[float, str]:
    """The largest |stored - now| over the numbers of two rows, and its field; infinite if one is missing or NaN."""
    worst, where = 0.0, ""
    for name, value in stored.items():
        if name in ("name", "messages"):
            continue
        pairs = [(name, value, now.get(name))]
        if isinstance(value, dict):
            pairs = [(f"{name}.{key}", old, now.get(name, {}).get(key)) for key, old in value.items()]
        for field, old, new in pairs:
            difference = math.inf if new is None else abs(old - new)
            if math.isnan(difference) or difference > worst:
                worst, where = (math.inf if math.isnan(difference) else difference), field
    return worst, where
