"""
`urm score`: rows in, rows with rewards and uncertainties out. Interrupted, the same command goes on where it stopped.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from urm_hf.cli.model_arguments import add_model_arguments, check_positive, ensemble_of, limits_of, model_kwargs_of

EPILOG = """
A row is a conversation in any form of docs/data.md, or holds several: `chosen` and `rejected`, or a list `candidates`,
`responses` or `completions`. Several become one row each, with `answer_column` and `answer_index`.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm score", description=__doc__, epilog=EPILOG)
    parser.add_argument("model", nargs="+", help="a model (repository or folder); several make an ensemble")
    parser.add_argument(
        "--data",
        required=True,
        help="file (.jsonl, .jsonl.gz, .parquet, .csv), Hub dataset, or - for JSON lines on stdin",
    )
    parser.add_argument("--out", required=True, type=Path, help="file to write: .jsonl, .jsonl.gz or .parquet")
    parser.add_argument("--split", help="split of a Hub dataset, or value in a file's column `split`")
    parser.add_argument("--data-config", help="configuration of a Hub dataset")
    parser.add_argument("--data-revision", help="commit, branch or tag of a Hub dataset")

    columns = parser.add_argument_group("columns, where they have other names than usual")
    columns.add_argument("--prompt-column", help="(default: prompt, or a name that data are known to use)")
    columns.add_argument("--answer-columns", nargs="+", help="answers to the prompt, each text, messages or a list")
    columns.add_argument("--messages-column", help="whole conversations")
    columns.add_argument("--text-column", help="texts that are scored as they are")

    add_model_arguments(parser)

    job = parser.add_argument_group("job")
    job.add_argument("--on-error", default="raise", choices=["raise", "skip"], help="for rows that cannot be scored")
    job.add_argument("--filter-measure", help="uncertainty that the column `kept` is read from, such as reward_std")
    job.add_argument("--filter-threshold", type=float, help="largest value of the measure that is kept")
    job.add_argument("--rows-per-part", type=int, default=8192, help="what is lost at most on a crash (default: 8192)")
    job.add_argument("--num-processes", type=int, default=1, help="processes on this machine, or actors of Ray")
    job.add_argument("--engine", default="local", choices=["local", "ray"], help="who runs the processes")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
    check_positive(args, "num_processes")
    if launched and args.data == "-":
        raise ValueError("--data - is for one command; processes of a launcher cannot share standard input.")
    from urm_hf.data.answers import Columns
    from urm_hf.scoring.jobs.job import ScoreJob
    from urm_hf.scoring.jobs.parts import check_output, parts_path
    from urm_hf.scoring.jobs.processes import run_alone, run_launched, run_processes, run_ray

    check_output(args.out)
    answers = tuple(args.answer_columns) if args.answer_columns else None
    job = ScoreJob(
        models=args.model,
        data=_spooled(parts_path(args.out)) if args.data == "-" else args.data,
        out=args.out,
        revisions=args.revision,
        split=args.split,
        data_config=args.data_config,
        data_revision=args.data_revision,
        columns=Columns(args.prompt_column, answers, args.messages_column, args.text_column),
        limits=limits_of(args),
        loading=model_kwargs_of(args),
        ensemble=ensemble_of(args),
        on_error=args.on_error,
        filter_measure=args.filter_measure,
        filter_threshold=args.filter_threshold,
        rows_per_part=args.rows_per_part,
    )
    if args.engine == "ray":
        counts = run_ray(job, args.num_processes)
    elif launched:
        counts = run_launched(job, args.device)
    elif args.num_processes > 1:
        counts = run_processes(job, args.num_processes, args.device)
    else:
        counts = run_alone(job, args.device)
    if counts is not None:
        print(_summary(counts, args.out), file=sys.stderr)
    return 0


def _summary(counts: dict[str, int], out: Path) -> str:
    saved = max(0, 1 - counts["computed_tokens"] / max(1, counts["plain_tokens"]))
    skipped = f", {counts['skipped']} SKIPPED (see {out}.skipped.jsonl)" if counts["skipped"] else ""
    return (
        f"{counts['rows']} rows in, {counts['scored']} scored{skipped}, {counts['truncated']} truncated, "
        f"{counts['tokens']} tokens ({saved:.0%} saved): {out}"
    )


def _spooled(folder: Path) -> str:
    """Standard input as a file, which an interrupted job reads again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stdin.jsonl"
    with open(path.with_suffix(".tmp"), "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    path.with_suffix(".tmp").replace(path)
    return str(path)
