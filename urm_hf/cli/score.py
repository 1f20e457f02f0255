"""
`urm score`: rows in, rows with rewards and uncertainties out. Interrupted, the same command goes on where it stopped.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from urm_hf.cli.model_arguments import (
    add_data_arguments,
    add_model_arguments,
    add_prompt_column,
    check_positive,
    read_ensemble,
    read_limits,
    read_model_kwargs,
    read_server,
    split_members,
)
from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable

if TYPE_CHECKING:  # at run time only where there is work: `--help` answers at once
    from urm_hf.scoring.jobs.job import ScoreJob

EPILOG = """
A row is a conversation in any form of docs/data.md, or holds several: `chosen` and `rejected`, or a list `candidates`,
`responses` or `completions`. Several become one row each, with `answer_column` and `answer_index`. `--data -` reads
JSON lines from standard input.
"""

SPOOLED = "urm-score-"  # what temporary folders of output for - begin with


def build_parser() -> Parser:
    parser = Parser(prog="urm score", description=__doc__, epilog=EPILOG)
    parser.add_argument(
        "model", nargs="+", metavar="MODEL", help="A repository or folder. A,B,C are the members of an ensemble."
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        help="The file to write: .jsonl, .jsonl.gz, .csv or .parquet. - writes JSON lines to standard output, and "
        "keeps nothing if it is interrupted.",
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing output of another job.")

    parser.add_argument("--limit", type=int, metavar="N", help="Score only the first N rows, to try a command out.")

    columns = parser.add_argument_group("columns, where they have other names than usual")
    add_prompt_column(columns)
    columns.add_argument(
        "--answer-columns",
        nargs="+",
        metavar="COLUMN",
        help="The columns of answers to the prompt, each text, messages or a list.",
    )
    columns.add_argument("--messages-column", help="The column of whole conversations.")
    columns.add_argument("--text-column", help="The column of texts that are scored as they are.")

    add_model_arguments(parser)

    job = parser.add_argument_group("job")
    job.add_argument(
        "--on-error",
        default="raise",
        choices=["raise", "skip"],
        help="What happens to a row that cannot be scored: an error (the default), or it is skipped and counted.",
    )
    job.add_argument(
        "--filter-measure", help="The uncertainty that the column `kept` is read from, such as reward_std."
    )
    job.add_argument("--filter-threshold", type=float, help="The largest value of the measure that is kept.")
    job.add_argument(
        "--rows-per-part", type=int, default=8192, help="How many rows a crash loses at most. The default is 8192."
    )
    job.add_argument("--num-processes", type=int, default=1, help="Processes on this machine, or actors of Ray.")
    job.add_argument(
        "--engine",
        default="local",
        metavar="local|ray|URL",
        help="Who runs the processes: this machine (local, the default) or Ray. Or where the model is: at "
        "http://HOST:PORT, behind `urm serve`, whose token is read from URM_SERVE_TOKEN; MODEL is the one it serves.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    # what torchrun and `accelerate launch` tell each of the processes that they start
    launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
    check_positive(args, "num_processes", "limit")
    server = read_server(args, ("local", "ray"))
    if server is not None and (launched or args.num_processes > 1):
        raise ValueError("--engine URL is for one process: the server itself puts what it is asked in batches.")
    if launched and args.data == "-":
        raise ValueError("--data - is for one command; processes of a launcher cannot share standard input.")
    if str(args.out) == "-":
        return _score_to_stdout(args, server, launched=launched)
    return _score(args, server, launched=launched)


def _score_to_stdout(args: argparse.Namespace, server: str | None, *, launched: bool) -> int:
    """Scores into a temporary file, whose rows are printed once they are whole."""
    if launched or args.engine == "ray":
        raise ValueError("--out - is for one command on this machine; name a file that all processes see.")
    from urm_hf.scoring.jobs.finished import forget_finished

    with tempfile.TemporaryDirectory(prefix=SPOOLED) as folder:
        args.out = Path(folder) / "scored.jsonl"
        try:
            _score(args, server, launched=False)
            _print_lines(args.out.with_name(f"{args.out.name}.skipped.jsonl"), "skipped: ", sys.stderr)
            _print_lines(args.out, "", sys.stdout)
        finally:
            forget_finished(args.out)
    return 0


def _print_lines(path: Path, prefix: str, stream: TextIO):
    """JSON lines of a file, if it is there, as terminals may get them: the rest is escaped as JSON escapes it."""
    if path.is_file():
        with open(path, encoding="utf-8") as file:
            for line in file:
                print(f"{prefix}{json.dumps(json.loads(line))}", file=stream)


def _score(args: argparse.Namespace, server: str | None, *, launched: bool) -> int:
    from urm_hf.scoring.jobs.finished import is_remembered
    from urm_hf.scoring.jobs.parts import check_job_output, parts_path, remove_if_empty

    remove_if_empty(parts_path(args.out))  # of a run that was killed before its first part
    # what this very command may have written is looked at closely below; parts would be work that is still to be done
    known = not (args.overwrite or parts_path(args.out).exists()) and is_remembered(args.out)
    check_job_output(args.out, [args.data], skips=args.on_error == "skip", overwrite=args.overwrite or known)
    data = _spool_stdin(parts_path(args.out)) if args.data == "-" else args.data
    job = _build_job(args, data, server)
    try:
        if known and (counts := job.find_finished()) is not None:
            _tell_doubts(counts)
            print(printable(f"Already done. {_format_summary(counts, args.out)}"), file=sys.stderr)
            return 0
        counts = _run(job, args, launched=launched)
    finally:
        if args.data == "-":  # the copy of standard input lies there
            remove_if_empty(parts_path(args.out))
    if counts is not None:
        _tell_doubts(counts)
        print(printable(_format_summary(counts, args.out)), file=sys.stderr)
    elif not launched:
        print(printable(f"{args.out} was finished by another run of this job."), file=sys.stderr)
    return 0


def _build_job(args: argparse.Namespace, data: str, server: str | None) -> "ScoreJob":
    from urm_hf.data.answers import Columns
    from urm_hf.scoring.jobs.job import ScoreJob

    members, revisions = split_members(args.model, args.revision)
    answers = tuple(args.answer_columns) if args.answer_columns else None
    return ScoreJob(
        models=members,
        data=data,
        out=args.out,
        revisions=revisions,
        split=args.split,
        data_config=args.data_config,
        data_revision=args.data_revision,
        columns=Columns(
            args.prompt_column,
            answers,
            args.messages_column,
            args.text_column,
            format=args.format,
            ignore=tuple(args.ignore_columns),
        ),
        limits=read_limits(args),
        loading=read_model_kwargs(args),
        ensemble=read_ensemble(args),
        on_error=args.on_error,
        filter_measure=args.filter_measure,
        filter_threshold=args.filter_threshold,
        rows_per_part=args.rows_per_part,
        limit=args.limit,
        overwrite=args.overwrite,
        server=server,
    )


def _run(job: "ScoreJob", args: argparse.Namespace, *, launched: bool) -> dict[str, int] | None:
    """Counts of all rows; None where another process, or another run of the job, has joined the parts."""
    from urm_hf.scoring.jobs.processes import run_alone, run_launched, run_processes, run_ray

    if args.engine == "ray":
        return run_ray(job, args.num_processes)
    if launched:
        return run_launched(job, args.device)
    if args.num_processes > 1:
        return run_processes(job, args.num_processes, args.device)
    return run_alone(job, args.device)


def _tell_doubts(counts: dict[str, int]):
    """Says so where rows were plain text to a model that knows chats, and where nobody has trained the gate."""
    from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
    from urm_hf.data.seen import OTHER_FORM

    if counts.get("untrained_gate"):  # not counted in what an earlier version has finished
        print(f"note: {UNTRAINED_GATE}.", file=sys.stderr)
    if counts.get("other_form"):
        print(f"note: {counts['other_form']} conversations: {OTHER_FORM}.", file=sys.stderr)


def _format_summary(counts: dict[str, int], out: Path) -> str:
    """One line on what came of all rows."""
    printed = out.parent.name.startswith(SPOOLED)  # a temporary file, which is printed
    saved = max(0, 1 - counts["computed_tokens"] / max(1, counts["plain_tokens"]))
    place = "as listed below" if printed else f"see {out}.skipped.jsonl"
    skipped = f", {counts['skipped']} SKIPPED ({place})" if counts["skipped"] else ""
    return (
        f"{counts['rows']} rows in, {counts['scored']} scored{skipped}, {counts['truncated']} truncated, "
        f"{counts['tokens']} tokens ({saved:.0%} saved): {'standard output' if printed else out}"
    )


def _spool_stdin(folder: Path) -> str:
    """Standard input as a file, which an interrupted job reads again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stdin.jsonl"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    temporary.replace(path)
    return str(path)
