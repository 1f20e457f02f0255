"""How a server is: alive, ready, what model it has, and what it counted."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from urm_hf.checkpoints.files import read_json
from urm_hf.data.seen import learnt_from_chats
from urm_hf.hub.folder import SCORES
from urm_hf.hub.reference import ATOL, CONVERSATIONS, largest_difference, score_reference
from urm_hf.scores import has_posterior
from urm_hf.scoring.scorer import RewardScorer
from urm_hf.serving.service import RewardService


def check_reference(scorer: RewardScorer, folder: str | None = None) -> str | None:
    """
    Scores the reference conversations, and holds them against those that the model was published with.

    Args:
        scorer ([`RewardScorer`]): the model.
        folder (`str`, *optional*): where it was loaded from, which may have scores of its own.

    Returns:
        `str` or `None`: what is wrong.
    """
    try:
        if not scorer.tokenizer.chat_template:  # a model of plain text, for which there are no references
            scorer.score([turns[-1]["content"] for turns in CONVERSATIONS.values()])
            return None
        rows = score_reference(scorer)
    except ValueError as error:
        return f"the reference conversations cannot be scored: {error}"
    if folder is None or not (Path(folder) / SCORES).is_file():
        return None
    stored = read_json(Path(folder) / SCORES)
    dtypes = (str(stored.get("dtype", "float32")), str(scorer.model.dtype).removeprefix("torch."))
    allowed = max(ATOL.get(dtype, ATOL["bfloat16"]) for dtype in dtypes)
    known = {row["name"]: row for row in stored.get("conversations", [])}
    for row in rows:
        before = known.get(row["name"])
        if before is None:
            continue
        difference, field = largest_difference(before, row)
        if not difference <= allowed * max(1.0, abs(before["reward"])):
            return f"{row['name']!r} has another {field} than when the model was published, by {difference:.2g}."
    return None


def compute_fingerprint(service: RewardService) -> str:
    """
    What tells a model, and the settings that its scores depend on, from others: a digest of one conversation's score.

    Weights are not read again for it, and a model that is started anew has the same: four digits are rounded alike.
    """
    score = {name: f"{value:.4g}" for name, value in service.example.items() if isinstance(value, float)}
    parts = [score, service.scorer.truncation, service.encoder.max_length]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def describe_model(service: RewardService, started: float) -> dict[str, Any]:
    """The entry of /v1/models."""
    settings, scorer = service.settings, service.scorer
    members = len(service.example.get("member_rewards") or ()) or None
    return {
        "id": settings.name,
        "object": "model",
        "created": int(started),
        "owned_by": "urm-hf",
        "kind": "ensemble" if service.is_ensemble else "urm" if scorer.attributes else "scalar",
        "attributes": scorer.attributes,
        "has_posterior": has_posterior(scorer.model),
        "members": members,
        "max_length": service.encoder.max_length,
        "fingerprint": compute_fingerprint(service),
        "heads": settings.heads,
        "learnt_from_chats": learnt_from_chats(scorer.model),
        "truncation": scorer.truncation,
        "measure": settings.measure,
        "coefficient": settings.coefficient if settings.measure else None,
        "max_rows": settings.max_rows,
        "max_body": settings.max_body,
    }


class Readiness:
    """
    Whether a server gives the rewards that it should.

    Args:
        problem (`str`, *optional*): what was wrong with the reference conversations when it started.
        service ([`RewardService`]): whose scoring thread has to live.
    """

    def __init__(self, problem: str | None, service: RewardService):
        self.trouble_of_model, self.service, self.started = problem, service, time.time()

    @property
    def trouble(self) -> str | None:
        """What is wrong now."""
        if self.trouble_of_model is not None:
            return self.trouble_of_model
        return None if self.service.is_alive else "the scoring thread does not run."
