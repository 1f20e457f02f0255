"""
A judging job: pairs in, each asked twice with the answers swapped, verdicts and their summary out. It can be killed.

One process writes, threads ask. What is written depends on the data, the settings and the replies only.
"""

import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import urm_hf
from urm_hf.data.answers import Columns
from urm_hf.data.outputs import check_output_file, json_bytes, json_lines, write_whole
from urm_hf.data.progress import ProgressBar
from urm_hf.data.source import Source
from urm_hf.judge.client import JudgeClient, JudgeFailed, JudgeStopped
from urm_hf.judge.folder import ReplyFolder, Request, replies_path
from urm_hf.judge.output import WRITTEN, build_columns, read_record, read_verdict, summarize_requests, summary_path
from urm_hf.judge.pairs import Pair, match_pairs, read_pairs
from urm_hf.judge.prompt import NAMES, judge_messages, model_names, prompt_fingerprint
from urm_hf.judge.summary import Judged, summarize
from urm_hf.scoring.jobs.inputs import WatchedInput

LABELLED = ("chosen", "rejected")  # answers of which the first is known to be better


@dataclass
class JudgeJob:
    """
    What `urm judge` does.

    Args:
        client ([`JudgeClient`]): who is asked.
        data (`str`): what [`Source`] reads: pairs, or answers.
        out (`Path`): the JSON-lines file to write; the summary stands beside it.
        against (`str`, *optional*): another file of answers to the same prompts.
        split (`str`, *optional*): as of [`Source`].
        data_config (`str`, *optional*): as of [`Source`].
        data_revision (`str`, *optional*): as of [`Source`].
        columns ([`Columns`], *optional*): what the rows call their parts; by default their usual names.
        seed (`int`, *optional*, defaults to 0): of the first reply to a request; further ones count up. Also of names
            and intervals.
        reply_attempts (`int`, *optional*, defaults to 1): replies that a judge may give until one can be parsed.
        names (`str`, *optional*, defaults to `"secret"`): or "paper", see `urm_hf.judge.prompt.model_names`.
        concurrency (`int`, *optional*, defaults to 8): requests at once.
        stop_after (`int`, *optional*, defaults to 20): requests that fail one after the other before the job gives up;
            0: never.
        bootstrap_samples (`int`, *optional*, defaults to 1000): resamples for intervals.
        overwrite (`bool`, *optional*, defaults to `False`): whether verdicts and a summary of another origin may be
            replaced.

    Raises:
        ValueError: an argument is out of range, or the output must not be written.
    """

    client: JudgeClient
    data: str
    out: Path
    against: str | None = None
    split: str | None = None
    data_config: str | None = None
    data_revision: str | None = None
    columns: Columns = field(default_factory=Columns)
    seed: int = 0
    reply_attempts: int = 1
    names: str = "secret"
    concurrency: int = 8
    stop_after: int = 20
    bootstrap_samples: int = 1000
    overwrite: bool = False

    def __post_init__(self):
        if self.out.suffix != ".jsonl":
            raise ValueError(f"{self.out}: verdicts are written as JSON lines; name a file that ends in .jsonl.")
        if self.names not in NAMES:
            raise ValueError(f"`names` must be one of {', '.join(NAMES)}, got {self.names!r}.")
        for name in ("reply_attempts", "concurrency", "bootstrap_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        self._check_output()
        chosen = (self.split, self.data_config, self.data_revision)
        self.source = Source(self.data, *chosen, strict=True)
        self.other = Source(self.against, *chosen, strict=True) if self.against else None
        self.inputs = [WatchedInput(source) for source in (self.source, self.other) if source]

    def _check_output(self):
        """What cannot or must not be written is told before anything is asked; the job's own is written anew."""
        own = (replies_path(self.out) / "manifest.json").is_file()
        read = [name for name in (self.data, self.against) if name]
        for path in (self.out, summary_path(self.out)):
            check_output_file(path, read, overwrite=self.overwrite or own)

    def pairs(self) -> Iterator[Pair]:
        """
        Those of all rows, in their order.

        Raises:
            ValueError: a row holds none, or compares something else than the first; it is named.
        """
        if self.other is None:
            found = read_pairs(self.source, self.columns)
        else:
            found = match_pairs(self.source, self.other, self.columns)
        names = None
        for pair in found:
            names = names or pair.names
            if pair.names != names:
                here, before = " and ".join(pair.names), " and ".join(names)
                raise ValueError(
                    f"{self.data}, row {pair.row}, compares {here}, but rows before {before}; split the file."
                )
            if taken := [name for name in WRITTEN if name in pair.columns]:
                raise ValueError(
                    f"{self.data}, row {pair.row}, has columns that the verdict would overwrite: {', '.join(taken)}. "
                    "Rename them."
                )
            yield pair

    def name_answers(self, pair: Pair, order: int) -> tuple[str, str]:
        """What the answers are called in a request, in the order in which they are shown."""
        return model_names(pair.instruction, pair.answers(order), self.names, self.seed)

    def messages(self, pair: Pair, order: int) -> list[dict[str, str]]:
        """The request for a pair, with a first in order 0 and b first in order 1."""
        return judge_messages(pair.instruction, pair.answers(order), self.name_answers(pair, order))

    def manifest(self) -> dict[str, Any]:
        """All that a reply depends on, as far as one can know."""
        return {
            "urm_hf": urm_hf.__version__,
            "base_url": self.client.base_url,
            "fields": self.client.fields,
            "prompt": prompt_fingerprint(),
            "names": self.names,
            "seed": self.seed,
            "reply_attempts": self.reply_attempts,
            "data": self.source.fingerprint,
            "against": self.other.fingerprint if self.other else None,
            "split": self.split,
            "columns": vars(self.columns),
        }

    def run(self, progress: bool = False) -> dict[str, Any]:
        """
        Judges what has no verdict yet, and writes the output and its summary.

        Args:
            progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.

        Returns:
            `dict`: the summary.

        Raises:
            ValueError: a row is no pair (before anything is asked), or there are replies of another job.
            JudgeStopped: the endpoint refuses all requests; what has been answered is kept.
        """
        count = sum(1 for _ in self.pairs())  # reads all rows: a bad one is found before anything is paid for
        with ReplyFolder(self.out, self.manifest()) as folder:
            done = {request for request, record in folder.records.items() if record["failed"] is None}
            missing = ((pair, order) for pair in self.pairs() for order in (0, 1) if (pair.row, order) not in done)
            with ProgressBar(
                total=2 * count, initial=len(done), unit="req", desc="Judging", disable=not progress
            ) as bar:
                self._ask(missing, folder, bar)
            for each in self.inputs:  # else verdicts would be written beside other rows than were judged
                each.check()
            return self._write(folder.records)

    def _ask(self, missing: Iterator[tuple[Pair, int]], folder: ReplyFolder, bar: ProgressBar):
        in_a_row = 0
        with closing(self._collect_records(missing, folder)) as records:  # its threads end with this, by any error
            for record in records:
                bar.update()
                in_a_row = in_a_row + 1 if record["failed"] else 0
                if in_a_row and in_a_row == self.stop_after:
                    raise JudgeStopped(
                        f"{in_a_row} requests failed one after the other, the last with: {record['failed']}. What was "
                        "answered is kept; the same command goes on."
                    )

    def _collect_records(
        self, missing: Iterator[tuple[Pair, int]], folder: ReplyFolder
    ) -> Generator[dict[str, Any], None, None]:
        """
        The records of requests as they come in, which are in the folder by then.

        A thread keeps its record before it asks for the next. Not many more rows are in memory than are being asked.
        """
        waiting: SimpleQueue = SimpleQueue()
        finished: SimpleQueue = SimpleQueue()
        stop = threading.Event()

        def work():
            for request in iter(waiting.get, None):
                try:
                    record = self._record(*request, stop)
                    folder.append(record)
                    finished.put(record)
                except BaseException as error:  # raised again where the records are taken
                    finished.put(error)
                    stop.set()

        for _ in range(self.concurrency):  # daemons: an interrupted command does not wait for answers
            threading.Thread(target=work, daemon=True).start()
        under_way = 0
        try:
            for request in missing:
                waiting.put(request)
                under_way += 1
                if under_way == 2 * self.concurrency:
                    yield _take(finished)
                    under_way -= 1
            for _ in range(under_way):
                yield _take(finished)
        finally:
            stop.set()
            for _ in range(self.concurrency):
                waiting.put(None)

    def _record(self, pair: Pair, order: int, stop: threading.Event) -> dict[str, Any]:
        """What becomes of a request: all replies, of which the last counts, or why there is none."""
        messages, names = self.messages(pair, order), self.name_answers(pair, order)
        replies: list[dict[str, Any]] = []
        faults: Counter = Counter()
        failed = None
        for attempt in range(self.reply_attempts):
            try:
                replies.append(vars(self.client.ask(messages, self.seed + attempt, faults, stop)))
            except JudgeFailed as error:
                failed = str(error)
                break
            if read_verdict(replies[-1], names)[0] is not None:
                break
        return {"row": pair.row, "order": order, "failed": failed, "replies": replies, "faults": dict(faults)}

    def _write(self, records: dict[Request, dict[str, Any]]) -> dict[str, Any]:
        """The rows in the order of the data, then the summary, which is returned."""
        judged, prompts, told, used = [], [], [], []
        # rows are read again instead of kept: what is in memory does not grow with their texts
        temporary = self.out.with_name(f"{self.out.name}.tmp")
        with open(temporary, "wb") as file:
            for pair in self.pairs():
                both = [records[pair.row, order] for order in (0, 1)]
                told += [read_record(record, self.name_answers(pair, record["order"])) for record in both]
                used += both
                judged.append(Judged(told[-2].preferred, told[-1].preferred))
                prompts.append(pair.prompt)
                file.write(json_lines([pair.columns | build_columns(judged[-1], told[-2:])]))
        temporary.replace(self.out)
        labelled = pair.names == LABELLED  # all pairs have the names of the last
        summary = {
            "schema": "urm-hf judge",
            "version": 1,
            "data": self.data,
            "against": self.against,
            "a": pair.names[0],
            "b": pair.names[1],
            "judge": self.manifest(),
            **summarize_requests(used, told),
            **summarize(judged, prompts, labelled, self.bootstrap_samples, self.seed),
        }
        write_whole(summary_path(self.out), json_bytes(summary, indent=1) + b"\n")
        return summary


def _take(finished: SimpleQueue) -> dict[str, Any]:
    """The next record; an error of a thread is raised here."""
    record = finished.get()
    if isinstance(record, BaseException):
        raise record
    return record
