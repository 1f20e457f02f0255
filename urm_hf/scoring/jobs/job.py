"""A scoring job that can be interrupted: rows in, parts, one file out; alone or with other processes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import urm_hf
from urm_hf.data.answers import Columns, conversations_of, telling_answer
from urm_hf.data.conversations import Conversation
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.seen import describe_other_form, read_form
from urm_hf.data.source import PartReader, Source
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.scores import RewardScore
from urm_hf.scoring.jobs.finished import find_finished
from urm_hf.scoring.jobs.inputs import WatchedInput
from urm_hf.scoring.jobs.merging import merge_parts
from urm_hf.scoring.jobs.models import (
    WatchedModels,
    count_untrained_gates,
    identify,
    read_ensemble_config,
    read_sources,
    read_training,
)
from urm_hf.scoring.jobs.parts import COUNTS, PartFolder, check_job_output
from urm_hf.scoring.jobs.served import WatchedServer, check_readable, connect, identify_served, score_rows
from urm_hf.scoring.loading import check_loading
from urm_hf.scoring.remote import RemoteScorer
from urm_hf.scoring.scorer import NonFiniteScores, RewardScorer
from urm_hf.uncertainty.filtering import filter_values
from urm_hf.uncertainty.measures import MEASURES, compute_uncertainty

WAIT = 0.2  # seconds between looks at parts that others work on


@dataclass
class ScoreJob:
    """
    What `urm score` does, as a value that processes can be sent.

    Args:
        models (`list[str]`): a repository or folder; several make an ensemble.
        data (`str`): the file or dataset that [`Source`] reads.
        out (`Path`): the file to write.
        revisions (`Sequence[str | None]`, *optional*): a commit, branch or tag for each model.
        split (`str`, *optional*): as of [`Source`].
        data_config (`str`, *optional*): as of [`Source`].
        data_revision (`str`, *optional*): as of [`Source`].
        columns ([`Columns`], *optional*): what the rows call their parts; by default their usual names.
        limits (`dict`, *optional*): `max_tokens_per_batch`, `max_length`, `truncation` and `compile` of the scorer.
        loading (`dict`, *optional*): further arguments of the models' `from_pretrained`.
        ensemble (`dict`, *optional*): further arguments of an ensemble's.
        on_error (`str`, *optional*, defaults to `"raise"`): or "skip", to put rows that cannot be scored into a side
            file.
        filter_measure (`str`, *optional*): an uncertainty, higher is less sure.
        filter_threshold (`float`, *optional*): rows whose uncertainty is at most this are marked `kept`.
        rows_per_part (`int`, *optional*, defaults to 8192): how many rows a crash loses at most.
        limit (`int`, *optional*): how many rows are scored at most, the first ones. By default all.
        overwrite (`bool`, *optional*, defaults to `False`): whether an existing output, and its side file, may be
            replaced.
        server (`str`, *optional*): the URL of `urm serve`, where the model is; by default it is loaded here.

    Raises:
        ValueError: arguments that do not go together, or are out of range.
    """

    models: list[str]
    data: str
    out: Path
    revisions: Sequence[str | None] | None = None
    split: str | None = None
    data_config: str | None = None
    data_revision: str | None = None
    columns: Columns = field(default_factory=Columns)
    limits: dict[str, Any] = field(default_factory=dict)
    loading: dict[str, Any] = field(default_factory=dict)
    ensemble: dict[str, Any] = field(default_factory=dict)
    on_error: str = "raise"
    filter_measure: str | None = None
    filter_threshold: float | None = None
    rows_per_part: int = 8192
    limit: int | None = None
    overwrite: bool = False
    server: str | None = None

    def __post_init__(self):
        if self.revisions and len(self.revisions) != len(self.models):
            raise ValueError(f"--revision needs one entry for each of the {len(self.models)} models.")
        if (self.filter_measure is None) != (self.filter_threshold is None):
            raise ValueError("--filter-measure and --filter-threshold go together.")
        if self.filter_measure is not None and self.filter_measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise ValueError(f"--filter-measure must be one of {known}, got {self.filter_measure!r}.")
        if self.rows_per_part < 1:
            raise ValueError(f"--rows-per-part must be positive, got {self.rows_per_part}.")

    def check_output(self):
        """
        Whether the job may write its output.

        Raises:
            ValueError: the output exists, or is the input.
            OSError: it cannot be written.
        """
        check_job_output(self.out, [self.data], skips=self.on_error == "skip", overwrite=self.overwrite)

    def pinned(self) -> "ScoreJob":
        """The job on the commits that the models' revisions are now, for processes that start later."""
        # without this, a push between two starts would have them score with different weights
        access = HubPlace.read(self.loading).of_another()
        places = zip(self.models, self.revisions or [None] * len(self.models), strict=True)
        return replace(self, revisions=[MemberSource(*place, access).revision for place in places])

    def source(self) -> Source:
        """The rows, counted and fingerprinted."""
        place = self.split, self.data_config, self.data_revision
        return Source(self.data, *place, strict=self.on_error == "raise", limit=self.limit)

    def folder(self, source: Source, manifest: dict[str, Any] | None = None) -> PartFolder:
        """Where the parts lie; what they depend on may be told later, when a model is loaded."""
        parts = -(-source.count // self.rows_per_part)  # rounded up
        return PartFolder(self.out, manifest or {}, parts, overwrite=self.overwrite)

    def scorer(self, device: str | None) -> RewardScorer | RemoteScorer:
        """The model on a device, by default where `from_pretrained` puts it; or on its server."""
        if self.server is not None:
            return connect(self.server, self.models)
        loading = self.loading | ({} if device is None else {"device_map": {"": device}})
        check_loading(loading)
        if len(self.models) > 1:
            ensemble = URMEnsemble.from_pretrained(self.models, revisions=self.revisions, **loading, **self.ensemble)
            return RewardScorer(ensemble, **self.limits)
        revision = self.revisions[0] if self.revisions else None
        return RewardScorer(self.models[0], revision=revision, **loading, **self.ensemble, **self.limits)

    def find_finished(self) -> dict[str, int] | None:
        """What was counted when this very job was finished; None if its output is of another, or not as it was."""
        if self.server is not None:
            return find_finished(self.out, self.manifest(self.scorer(None), self.source()))
        config = read_ensemble_config(self.models, self.revisions, self.loading, self.ensemble)
        sources = self.read_sources(config)
        return find_finished(self.out, self.describe(sources, config, self.source()))

    def read_sources(self, config: URMEnsembleConfig | None = None) -> list[MemberSource]:
        """The models whose weights are scored with, none of them loaded; `config` of an ensemble, if it is known."""
        config = config or read_ensemble_config(self.models, self.revisions, self.loading, self.ensemble)
        return read_sources(self.models, self.revisions, self.loading, config)

    def manifest(self, scorer: RewardScorer | RemoteScorer, source: Source) -> dict[str, Any]:
        """All that a score depends on, so that parts are never mixed."""
        if isinstance(scorer, RemoteScorer):
            return self.describe([], None, source) | {"model": identify_served(scorer)}
        if isinstance(scorer.model, URMEnsemble):
            return self.describe(scorer.model.sources, scorer.model.config, source)
        return self.describe([scorer.source], None, source)

    def describe(self, sources: Any, config: URMEnsembleConfig | None, source: Source) -> dict[str, Any]:
        """
        The manifest, for which no model needs to be loaded.

        Args:
            sources (`list[MemberSource]`): the models. config (`URMEnsembleConfig`, *optional*): of an ensemble.
            source (`Source`): the data.
        """
        combined = ("aggregation", "aggregation_k", "reward_means", "reward_stds", "strategy")
        return {
            "urm_hf": urm_hf.__version__,
            "model": [identify(source) for source in sources],
            "ensemble": None if config is None else {name: getattr(config, name) for name in combined},
            "dtype": str(self.loading.get("dtype")),
            "data": source.fingerprint,
            "rows": source.count,
            "split": self.split,
            "columns": vars(self.columns),
            "limits": self.limits,
            "on_error": self.on_error,
            "filter": [self.filter_measure, self.filter_threshold],
            "rows_per_part": self.rows_per_part,
        }


@dataclass(frozen=True)
class _Asked:
    """
    A conversation to score: the columns to write beside its score, its ids, whether they were cut, its row. What a
    server scores has no ids.
    """

    columns: dict[str, Any]
    ids: list[int]
    cut: bool
    row: int
    conversation: Conversation


_Scored: TypeAlias = tuple[list[_Asked], list[RewardScore], dict[str, float]]


class PartScorer:
    """
    Scores parts of a job, one after the other. Several may work on one job at once.

    Args:
        job ([`ScoreJob`]): what to score, and with what.
        device (`str`, *optional*): where the model computes; by default where `from_pretrained` puts it.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar for each part.
        scorer ([`RewardScorer`], *optional*): of another job on the same model; by default the model is loaded.
        models ([`WatchedModels`], *optional*): of that job: what the files were before the model was loaded.

    Raises:
        ValueError: the output must not be written, or lies beside parts of another job.
    """

    def __init__(
        self,
        job: ScoreJob,
        device: str | None = None,
        progress: bool = False,
        scorer: RewardScorer | RemoteScorer | None = None,
        models: WatchedModels | WatchedServer | None = None,
    ):
        self.job, self.progress = job, progress
        job.check_output()  # what cannot be written is told before a model is loaded
        self.source = job.source()
        self.input = WatchedInput(self.source)
        self.folder = job.folder(self.source)
        before = None if models or job.server else WatchedModels(job.read_sources())  # before they are loaded
        self.scorer = scorer or job.scorer(device)
        served = WatchedServer(self.scorer) if isinstance(self.scorer, RemoteScorer) else None
        self.models: WatchedModels | WatchedServer = models or before or served  # type: ignore[assignment]
        self.folder.depend_on(job.manifest(self.scorer, self.source))
        self.models.check()  # after both were read: what was loaded is what the manifest names
        self.models.identities = self.folder.manifest["model"]
        if not self.folder.finished_by_another():
            self.folder.open()
        training = read_training(self.models.sources) if isinstance(self.models, WatchedModels) else None
        self._trained_on_chats = describe_other_form(training, "text") is not None
        self._untrained_gate = (
            isinstance(self.models, WatchedModels) and count_untrained_gates(self.models.sources) > 0
        )
        self.reader = PartReader(self.source, job.rows_per_part)

    def run(self):
        """
        Works until no part is missing: also on parts that another process has left undone; or until another run has
        written the output.
        """
        try:
            while not self.folder.finished_by_another() and (missing := self.folder.missing()):
                worked = False
                for number in missing:
                    worked = self._score_if_free(number) or worked
                if not worked:  # all that is missing is worked on; a process that dies gives up its lock
                    time.sleep(WAIT)
        finally:
            if self.input.path is None or self.input.path.parent != self.folder.path:
                self.folder.remove_if_empty()

    def merge(self) -> dict[str, int] | None:
        """
        Writes the output from the parts, and returns what was counted; None if another run did.

        Raises:
            InputChanged: the data is not what was scored. Its parts are removed: nobody can tell which are right.
            ModelChanged: a model's folder is not what it was. DamagedParts: parts are not what was written.
        """
        return merge_parts(self.folder, self.input, self.models)

    def _score_if_free(self, number: int) -> bool:
        """Whether this was a part that nobody has done or works on, and is done now."""
        lock = self.folder.claim(number)
        if lock is None:
            return False
        try:
            self.score_part(number)
        finally:
            lock.release()
        return True

    def score_part(self, number: int):
        """
        Scores a part, and keeps it.

        Raises:
            RowError: a row cannot be scored, and none may be left out.
            InputChanged: the data is not what the job began with.
        """
        try:
            items = self.reader.part(number)
        finally:
            self.input.check_quickly()  # before its rows are found to be damaged
        first = number * self.job.rows_per_part
        asked: list[_Asked] = []
        reasons: dict[int, str] = {}  # why rows are left out, by their numbers
        for row_number, item in enumerate(items, start=first):
            try:
                asked += self._encode(item, row_number)
            except RowError as error:
                self._leave_out(error, row_number, reasons)
        title = f"Part {number + 1} of {self.folder.parts}" if self.progress else None
        if isinstance(self.scorer, RemoteScorer):
            asked, scores, stats = self._score_remotely(self.scorer, asked, title, reasons)
        else:
            asked, scores, stats = self._score(self.scorer, asked, title, reasons)
        counts = {name: int(stats[name]) for name in COUNTS if name in stats}
        counts |= {"rows": len(items), "scored": len(scores), "skipped": len(reasons)}
        counts["plain_tokens"] = int(stats["tokens"] * stats["passes"])
        if self._trained_on_chats:
            counts["other_form"] = sum(read_form(one.conversation) == "text" for one in asked)
        if self._untrained_gate:
            counts["untrained_gate"] = len(scores)
        marks = self._mark_kept(scores)
        lines = [
            one.columns | dict(score.items()) | mark for one, score, mark in zip(asked, scores, marks, strict=True)
        ]
        skipped = []
        for row, reason in sorted(reasons.items()):
            skipped.append({"row": row, "reason": reason, "data": _make_readable(items[row - first])})
        # before it is kept: parts from before a change stay as good as they were
        self.input.check_quickly()
        self.models.check()
        self.folder.write(number, lines, skipped, counts)

    def _leave_out(self, error: RowError, row_number: int, reasons: dict[int, str]):
        """Notes why a row is left out, or raises where none may be."""
        if self.job.on_error == "raise":
            raise RowError(
                f"{error} (--on-error skip leaves out what cannot be scored.)", file=self.job.data, row=row_number
            ) from error
        reasons[row_number] = str(error)

    def _score_remotely(
        self, scorer: RemoteScorer, asked: list["_Asked"], title: str | None, reasons: dict[int, str]
    ) -> "_Scored":
        """As `_score`, by a server, which tells only now what cannot be encoded."""
        results, stats = score_rows(scorer, [one.conversation for one in asked], title)
        for one, result in zip(asked, results, strict=True):
            if isinstance(result, RowError) and one.row not in reasons:
                error = result.at(f"{self.job.data}, row {one.row}", file=self.job.data, row=one.row)
                self._leave_out(error, one.row, reasons)
        pairs = zip(asked, results, strict=True)
        kept = [(one, score) for one, score in pairs if one.row not in reasons and isinstance(score, RewardScore)]
        return [one for one, _ in kept], [score for _, score in kept], stats

    def _score(
        self, scorer: RewardScorer, asked: list["_Asked"], title: str | None, reasons: dict[int, str]
    ) -> "_Scored":
        """Whose the scores are, without rows that the model has no finite reward for; the scores; the statistics."""
        while True:
            ids = [one.ids for one in asked]
            cut, rows = [one.cut for one in asked], [one.row for one in asked]
            try:
                return asked, scorer.score_ids(ids, cut, rows, title), scorer.stats
            except NonFiniteScores as error:
                for row_number in {asked[index].row for index in error.indices}:
                    self._leave_out(error, row_number, reasons)
                # a row with several answers goes as a whole: a pair with one side is none
                asked = [one for one in asked if one.row not in reasons]

    def _encode(self, item: Any, row_number: int) -> list["_Asked"]:
        """Each conversation of a row, encoded."""
        with telling_rows():
            row = self.source.row(item)  # what is no row is told with its file and line
        encode = check_readable if isinstance(self.scorer, RemoteScorer) else self.scorer.encoder.encode
        try:
            answers = conversations_of(row, self.job.columns)
            encoded = []
            for columns, conversation in answers:
                if len(answers) == 1:
                    ids = encode(conversation)
                else:
                    with telling_answer(columns["answer_column"], columns["answer_index"]):
                        ids = encode(conversation)
                encoded.append(_Asked(columns, ids.ids or [], ids.cut, row_number, conversation))
        except RowError as error:
            raise error.at(f"{self.job.data}, row {row_number}", file=self.job.data, row=row_number) from error
        for one in encoded:
            self._check_columns(one.columns, row_number)
        return encoded

    def _mark_kept(self, scores: list[RewardScore]) -> list[dict[str, bool]]:
        """A column `kept` for each score, where a filter was asked for."""
        if self.job.filter_measure is None or not scores:
            return [{}] * len(scores)
        values = compute_uncertainty(scores, self.job.filter_measure)
        found = filter_values(values, threshold=self.job.filter_threshold)
        return [{"kept": bool(kept)} for kept in found.kept]

    def _check_columns(self, row: dict[str, Any], row_number: int):
        # asked of every row and before it is scored: JSON lines need not have the same columns
        new = list(RewardScore.__dataclass_fields__)
        if self.job.filter_measure:
            new.append("kept")
        taken = [name for name in new if name in row]
        if taken:
            raise ValueError(
                f"{self.job.data}, row {row_number}, has columns that the scores would overwrite: "
                f"{', '.join(taken)}. Rename them."
            )


def _make_readable(item: Any) -> Any:
    """A row for the side file; a line that is no JSON is told as it stands, with its number left out."""
    if isinstance(item, dict):
        return item
    return item[1].decode(errors="replace").rstrip("\n")
