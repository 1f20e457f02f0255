"""A job's model behind `urm serve`: that it is the one that was asked for, and stays it, and what it gives."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urm_hf.data.conversations import read_conversation
from urm_hf.data.encoder import Encoded
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.scores import RewardScore
from urm_hf.scoring.jobs.models import ModelChanged, digest_heads, read_ensemble_config, read_sources
from urm_hf.scoring.progress import STATISTICS
from urm_hf.scoring.remote import RemoteScorer

TOKEN = "URM_SERVE_TOKEN"  # the variable that the server reads, too


class WatchedServer:
    """
    A server's model, compared with what it was before it was scored with; as `WatchedModels` does with folders.

    Args:
        scorer ([`RemoteScorer`]): the server.

    Attributes:
        identities (`list[str]`, *optional*): what [`identify_served`] gave before.
    """

    identities: list[str] | None = None

    def __init__(self, scorer: RemoteScorer):
        self.scorer = scorer

    def check(self, identities: Sequence[str] | None = None):
        """
        Asks the server what its model is now.

        Args:
            identities (`Sequence[str]`, *optional*): what it has to be; by default what it was.

        Raises:
            ModelChanged: it is another.
        """
        known = self.identities if identities is None else list(identities)
        self.scorer.read_model()
        now = identify_served(self.scorer)
        if known is not None and known != now:
            raise ModelChanged(
                f"{self.scorer.url} serves another model, or with other settings, than when the job began. Scores of "
                "two models must not be mixed: serve what it was and run the same command again, or begin anew with "
                "another output."
            )


def identify_served(scorer: RemoteScorer) -> list[str]:
    """The name of a server's model, and what tells it from others of this name."""
    return [f"{scorer.name}@{scorer.fingerprint}"]


def connect(url: str, models: Sequence[str]) -> RemoteScorer:
    """
    The scorer of a server; its token is in the variable `URM_SERVE_TOKEN`.

    Args:
        url (`str`): as of [`RemoteScorer`].
        models (`Sequence[str]`): what it should serve: the one model, or the members of an ensemble.

    Raises:
        ValueError: it serves another model. ServerError: it does not answer.
    """
    scorer = RemoteScorer(url, os.environ.get(TOKEN) or None)
    wanted = "+".join(Path(os.path.abspath(name)).name for name in models)
    ours = _digest_local_heads(models) if scorer.heads else None
    if ours is not None and ours == scorer.heads:
        return scorer  # whatever it is called there
    if ours is not None and scorer.name == wanted:
        raise ValueError(
            f"{scorer.url} serves {scorer.name!r}, but another one than {', '.join(models)}: their heads differ. "
            "Serve this one, or name the folder of that one."
        )
    if scorer.name != wanted:
        raise ValueError(f"{scorer.url} serves {scorer.name!r}, and not {wanted!r}: name the model that it serves.")
    return scorer


def _digest_local_heads(models: Sequence[str]) -> list[str] | None:
    """Those of models in folders; None of others, of which the name alone is compared."""
    if not all(os.path.isdir(name) for name in models):
        return None
    try:
        return digest_heads(read_sources(models, None, {}, read_ensemble_config(models, None, {}, {})))
    except (ValueError, OSError):  # no model of ours, or one that is not whole
        return None


def check_readable(conversation: Any) -> Encoded:
    """No ids, which a server makes; but what is no conversation is told before anything is sent."""
    with telling_rows():
        read_conversation(conversation)
    return Encoded(None, False)


def score_rows(
    scorer: RemoteScorer, conversations: Sequence[Any], title: str | None
) -> tuple[list[RewardScore | RowError], dict[str, float]]:
    """
    A score for each conversation, or what is wrong with it; and the statistics that [`RewardScorer`] would give, as
    far as they can be told from here. What the server has saved can not.

    Args:
        scorer ([`RemoteScorer`]): the server.
        conversations (`Sequence`): in any form that it reads.
        title (`str`, *optional*): shows a progress bar of this name.
    """
    results = scorer.score_usable(conversations, unanswered=False, progress=title)
    scores = [result for result in results if isinstance(result, RewardScore)]
    stats: dict[str, float] = dict.fromkeys(STATISTICS, 0)
    tokens = sum(score["n_tokens"] for score in scores)
    stats |= {"conversations": len(conversations), "tokens": tokens, "computed_tokens": tokens, "passes": 1}
    stats["truncated"] = sum(score["truncated"] for score in scores)
    return results, stats
