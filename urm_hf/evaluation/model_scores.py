"""The scores of one model for given conversations: computed by a job that can be interrupted, or read from a file."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversation_keys import as_row, conversation_key, is_plain
from urm_hf.data.outputs import json_text, write_whole
from urm_hf.data.source import Source
from urm_hf.data.tables import FILE_TYPES, read_jsonl
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.scores import RewardScore
from urm_hf.scoring.jobs.job import PartScorer, ScoreJob
from urm_hf.scoring.jobs.models import (
    WatchedModels,
    count_untrained_gates,
    read_ensemble_config,
    read_sources,
    read_training,
)
from urm_hf.scoring.jobs.processes import default_device
from urm_hf.scoring.jobs.served import WatchedServer, connect
from urm_hf.scoring.remote import RemoteScorer
from urm_hf.scoring.scorer import RewardScorer

SCORE_FIELDS = tuple(RewardScore.__dataclass_fields__)
Rows: TypeAlias = dict[str, dict[str, Any]]  # of a file, by the keys of their conversations


@dataclass(frozen=True)
class Loading:
    """
    How models are loaded and conversations cut.

    Args:
        model: further arguments of `from_pretrained` (`dtype`, `trust_remote_code`).
        ensemble: of ensembles only (`strategy`, `aggregation`).
        limits: `max_length`, `truncation`, `max_tokens_per_batch` and `compile` of the scorer.
        device: "cpu", "cuda:1", ...; None: a GPU if there is one.
        server: the URL of `urm serve` that has the model; None: it is loaded here.
    """

    model: dict[str, Any] = field(default_factory=lambda: {"dtype": "float32"})
    ensemble: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    server: str | None = None


@dataclass(frozen=True)
class ModelScores:
    """
    Args:
        name: short, for tables. kind: "urm", "ensemble", "scalar", "scores" if they come from a file, or "judge".
        source: what was asked for. revision: the commit, of a repository.
        attributes: in the model's order; None of a model without.
        scores: one for each conversation.
        label_means, label_stds: of the ratings that the model was trained on, if it knows them.
        unjudged: of a judge, pairs that it told nothing of.
    """

    name: str
    kind: str
    source: str
    revision: str | None
    attributes: list[str] | None
    scores: list[RewardScore]
    label_means: list[float] | None = None
    label_stds: list[float] | None = None
    unjudged: int = 0


class OpenModel:
    """
    A model that several data sets are scored with, or a file of scores.

    Args:
        source: a repository or folder; several, joined by commas, make an ensemble; or a file that `urm score` wrote.
        name: what it is called in tables, and its file of scores.
        revision: commit, branch or tag; of members joined by commas, as many.
    """

    def __init__(self, source: str, name: str, loading: Loading | None = None, revision: str | None = None):
        self.source, self.name, self.revision = source, name, revision
        self.loading = loading or Loading()
        if self.loading.server is None or source.endswith(FILE_TYPES):
            _check_exists(source)
        self.rows = scores_by_key(source) if is_score_file(source) else None
        self.scorer: RewardScorer | RemoteScorer | None = None  # from the first scores on
        self._models: WatchedModels | WatchedServer | None = None  # what its files were before it was loaded

    def scores(
        self,
        conversations: Sequence[Any],
        folder: Path,
        origins: Sequence[str] | None = None,
        progress: bool = True,
    ) -> ModelScores:
        """
        Args:
            conversations: in any form that the scorer reads; equal ones are scored once.
            folder: where the scores are kept: asked again for the same conversations by the same model, they are read
                from there; interrupted, they are gone on with.
            origins (*optional*): where each conversation comes from, for errors.

        Raises:
            ValueError: a conversation cannot be scored; a file lacks the score of one, or has two that differ.
        """
        keys = [conversation_key(conversation) for conversation in conversations]
        rows = self.rows
        description: dict[str, Any] = {"kind": "scores"}
        if rows is None:
            asked = _write_conversations(conversations, keys, folder)
            rows, description = self._scored(asked, folder / f"{self.name}.jsonl", progress, keys, origins)
        missing = [number for number, key in enumerate(keys) if key not in rows]
        if missing:
            where = origins[missing[0]] if origins else f"conversation {missing[0]}"
            raise ValueError(
                f"{self.source} has no score for {len(missing)} of {len(keys)} conversations, the first of them "
                f"{where}: it is of other data, or of another version of them. Score this data with `urm score`, or "
                "name the model itself."
            )
        if self.rows is not None:
            self._check_templates(conversations, keys, origins)
        scores = [
            RewardScore(**{f: rows[key][f] for f in SCORE_FIELDS if rows[key].get(f) is not None}) for key in keys
        ]
        attributes = list(scores[0].attribute_means) if scores and scores[0].attribute_means else None
        return ModelScores(
            name=self.name,
            source=self.source,
            revision=self.revision,
            attributes=attributes,
            scores=scores,
            **description,
        )

    def check_data(self, data: Any):
        """Nothing: whether a model can score the data shows when it does."""

    def score_data(self, data: Any, folder: Path) -> ModelScores:
        """Of a data set's conversations (`EvaluationData`); see `scores`."""
        return self.scores(data.conversations, folder, data.origins)

    def read_attributes(self) -> list[str] | None:
        """The model's attributes, read before it is loaded; None of a model without, or where that does not tell."""
        if self.rows is not None:
            first: dict[str, Any] = next(iter(self.rows.values()), {})
            return list(first.get("attribute_means") or ()) or None
        if self.loading.server is not None:
            return connect(self.loading.server, self.source.split(",")).attributes
        models, revisions = self.source.split(","), self.revision.split(",") if self.revision else None
        try:
            ensemble = read_ensemble_config(models, revisions, self.loading.model, self.loading.ensemble)
            return list(read_sources(models, revisions, self.loading.model, ensemble)[0].config().attributes)
        except (ValueError, OSError):  # a scalar model; or damaged, which is told where it is loaded
            return None

    def read_training(self) -> list[Any]:
        """What the configs of the model, or of its members, say of their training; nothing where none is at hand."""
        return read_training(self._read_sources())

    def has_untrained_gate(self) -> bool:
        """Whether the model, or a member, has a gate that was never trained, as far as its config is at hand."""
        return count_untrained_gates(self._read_sources()) > 0

    def _read_sources(self) -> list[MemberSource]:
        if self.rows is not None or self.loading.server is not None:
            return []
        models, revisions = self.source.split(","), self.revision.split(",") if self.revision else None
        ensemble = read_ensemble_config(models, revisions, self.loading.model, self.loading.ensemble)
        return read_sources(models, revisions, self.loading.model, ensemble)

    def _check_templates(self, conversations: Sequence[Any], keys: Sequence[str], origins: Sequence[str] | None):
        """A ValueError if the file's scores are of plain text and the data wants a chat template, or the other way."""
        for number, (conversation, key) in enumerate(zip(conversations, keys, strict=True)):
            plain = is_plain(conversation)
            if plain != is_plain((self.rows or {})[key]):
                where = origins[number] if origins else f"conversation {number}"
                scored, wanted = ("with", "without") if plain else ("without", "with")
                raise ValueError(
                    f"{self.source} has scores that were computed {scored} a chat template, but {where} is to be "
                    f"scored {wanted} one, which gives other rewards. Score this data in its own form (messages, or "
                    "plain text), or name the model itself."
                )

    def _scored(
        self,
        conversations: Path,
        out: Path,
        progress: bool,
        keys: Sequence[str],
        origins: Sequence[str] | None,
    ) -> tuple[Rows, dict[str, Any]]:
        """Writes the scores to `out`, unless they are there already; returns them, and what the model is."""
        job = ScoreJob(
            models=self.source.split(","),
            data=str(conversations),
            out=out,
            revisions=self.revision.split(",") if self.revision else None,
            limits=self.loading.limits,
            loading=self.loading.model,
            ensemble=self.loading.ensemble,
            overwrite=True,  # the folder of scores is this command's own
            server=self.loading.server,
        )
        done = out.with_suffix(".json")  # of a finished job: what its scores depend on
        try:
            if self.scorer is None:
                self._models = None
            worker = PartScorer(job, self.loading.device or default_device(), progress, self.scorer, self._models)
            self.scorer, self._models = worker.scorer, worker.models
            manifest = worker.folder.manifest
            if out.is_file() and done.is_file() and json.loads(done.read_text()) == manifest:
                worker.folder.remove_if_empty()
            else:
                done.unlink(missing_ok=True)
                worker.run()
                worker.merge()
                write_whole(done, json_text(manifest, indent=1).encode())
        except ValueError as error:
            raise ValueError(_with_origin(str(error), keys, origins)) from error
        return {row["key"]: row for row in read_jsonl(out)}, _describe(self.scorer)


def _describe(scorer: RewardScorer | RemoteScorer) -> dict[str, Any]:
    """What kind of model it is, and the ratings that it was trained on, which a server does not tell."""
    config = None if isinstance(scorer, RemoteScorer) else scorer.model.config
    is_ensemble = scorer.is_ensemble if isinstance(scorer, RemoteScorer) else hasattr(config, "members")
    kind = "ensemble" if is_ensemble else "urm" if scorer.attributes else "scalar"
    return {"kind": kind, **{name: getattr(config, name, None) for name in ("label_means", "label_stds")}}


def _check_exists(source: str):
    """An error if a source can only be a path, and there is nothing, or a file that holds no scores."""
    if source.endswith(FILE_TYPES) and not Path(source).exists():
        raise FileNotFoundError(f"{source}: no such file.")
    if Path(source).is_file() and not source.endswith(FILE_TYPES):
        raise ValueError(f"{source}: neither a model's folder nor a file of scores ({', '.join(FILE_TYPES)}).")
    for part in [] if Path(source).exists() else source.split(","):
        if part.startswith(("/", "./", "../", "~")) and not Path(part).exists():
            raise FileNotFoundError(f"{part}: no such folder or file.")


def is_score_file(source: str) -> bool:
    return Path(source).is_file() and source.endswith(FILE_TYPES)


def scores_by_key(path: str) -> Rows:
    """
    The rows of a file that `urm score` wrote, by their conversations.

    Raises:
        ValueError: a row has no reward, or two rows of one conversation have different ones.
    """
    source = Source(path)
    rows: Rows = {}
    for number, row in enumerate(map(source.row, source.items())):
        where = f"{path}, row {number}"
        reward = row.get("reward")
        if not isinstance(reward, (int, float)) or isinstance(reward, bool) or not math.isfinite(reward):
            raise ValueError(f"{where}: `reward` is {reward!r}; expected a file that `urm score` wrote.")
        try:
            conversation = conversations_of({k: v for k, v in row.items() if k not in SCORE_FIELDS}, Columns())[0][1]
            key = conversation_key(conversation)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if key in rows and abs(rows[key]["reward"] - row["reward"]) > 1e-4 * max(1, abs(row["reward"])):
            raise ValueError(
                f"{where}: this conversation has the reward {row['reward']}, but {rows[key]['reward']} further up."
            )
        rows[key] = row
    return rows


def _write_conversations(conversations: Sequence[Any], keys: Sequence[str], folder: Path) -> Path:
    """Each distinct conversation as a row, in their order; the file stays as it is if it holds the same ones."""
    distinct = dict(zip(reversed(keys), reversed(conversations), strict=True))  # the first of equal ones stays
    lines = [json.dumps({"key": key, **as_row(distinct[key])}, ensure_ascii=False) for key in dict.fromkeys(keys)]
    folder.mkdir(parents=True, exist_ok=True)
    path, content = folder / "conversations.jsonl", "\n".join(lines) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
    return path


def _with_origin(message: str, keys: Sequence[str], origins: Sequence[str] | None) -> str:
    """An error of the scorer counts distinct conversations; says where the first that it names comes from."""
    found = re.search(r"\brows? \[?(\d+)", message)
    if not found or not origins:
        return message
    key = list(dict.fromkeys(keys))[int(found[1])]
    return f"{origins[keys.index(key)]}: {message}"
