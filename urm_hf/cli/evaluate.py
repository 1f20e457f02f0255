"""
`urm evaluate`: how good reward models are, how honest their uncertainty is, and what filtering by it buys.
"""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from urm_hf.cli.model_arguments import (
    add_judged_models,
    add_model_arguments,
    add_server_argument,
    add_statistics_arguments,
    check_distinct,
    check_positive,
    read_loading,
    read_revisions,
    short_names,
)
from urm_hf.cli.parser import Parser

EPILOG = """
Data: pairs (`prompt`, `chosen`, `rejected`), RewardBench 1 and 2, RM-Bench, ratings (a column `ratings`); the columns
tell which, or --kind. Writes DIR/results.json and DIR/report.html, and prints a table. Scores stay in DIR/scores: the
same command again reads them, or goes on where it was interrupted. docs/evaluation.md explains every number.
"""
BASELINES = ("longest answer", "random", "constant")
KINDS = ("pairs", "rewardbench", "rewardbench2", "rmbench", "ratings")


def build_parser() -> Parser:
    parser = Parser(prog="urm evaluate", description=__doc__, epilog=EPILOG)
    add_judged_models(parser)
    _add_data_sets(parser)
    _add_columns(parser)
    statistics = add_statistics_arguments(parser)
    statistics.add_argument(
        "--filter",
        default="either",
        choices=["either", "both"],
        help="Drop a pair when either answer is above the threshold (the default), or only when both are.",
    )
    add_model_arguments(parser)
    add_server_argument(parser)
    return parser


def _add_data_sets(parser: Parser):
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="Files (.jsonl, .jsonl.gz, .parquet, .csv) or Hub datasets. Several joined by commas make one data set.",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="The folder to write to.")
    parser.add_argument(
        "--kind",
        nargs="+",
        choices=KINDS,
        help="What the data is, for all or one for each. The columns tell.",
    )
    parser.add_argument(
        "--split", nargs="+", help="The split, for all or one for each; of a file a value in its column `split`."
    )
    parser.add_argument("--data-config", nargs="+", help="The configuration of a dataset, for all or one for each.")
    parser.add_argument(
        "--data-revision", nargs="+", help="The commit, branch or tag of a Hub dataset, for all or one for each."
    )
    parser.add_argument(
        "--on-error",
        default="raise",
        choices=["raise", "skip"],
        help="What happens to a row that is unusable: an error (the default), or it is skipped and counted.",
    )
    parser.add_argument(
        "--format", nargs="+", help="The name of the rows' format (docs/data.md), for all or one for each."
    )
    parser.add_argument(
        "--ignore-columns", nargs="+", metavar="COLUMN", default=[], help="The columns that are not looked at."
    )
    parser.add_argument("--max-prompts", type=int, help="Use only so many rows of each data set, drawn with the seed.")
    parser.add_argument(
        "--data-names", nargs="+", help="What the data sets are called. The default is the ends of their paths."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace files in the folder that are of another origin."
    )


def _add_columns(parser: Parser):
    columns = parser.add_argument_group("columns, where they have other names than usual")
    for name in ("prompt", "chosen", "rejected", "subset"):
        columns.add_argument(f"--{name}-column", default=name, help=f"The default is `{name}`.")
    columns.add_argument(
        "--attributes", nargs="+", help="The rated attributes. The default is all in the column `ratings`."
    )
    columns.add_argument(
        "--attribute-map", nargs="+", metavar="MODEL=DATA", help="Which rated attribute is which of the model's."
    )


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "bootstrap_samples", "max_prompts")
    if args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {args.seed}.")
    names = args.names or short_names(args.models)
    _check_names(names, "--names", args.models, "model")
    if args.data_names:
        _check_names(args.data_names, "--data-names", args.data, "data set")
    revisions = read_revisions(args)
    import matplotlib  # noqa: F401  # that it is missing is told before models score, not after

    from urm_hf.data.outputs import check_output_folder, has_schema
    from urm_hf.evaluation.results import SCHEMA

    # a folder of scores is of an evaluation that was interrupted before its results
    own = (args.out / "scores").is_dir() or has_schema(args.out / "results.json", SCHEMA)
    check_output_folder(args.out, ["results.json", "report.html"], own=own, overwrite=args.overwrite)
    from urm_hf.evaluation.benchmarks.rows import PreferenceColumns
    from urm_hf.evaluation.data import DataOptions, load_data, number_names, rename_data
    from urm_hf.evaluation.evaluate import Statistics, evaluate
    from urm_hf.evaluation.judge_verdicts import JudgeVerdicts, is_verdict_file
    from urm_hf.evaluation.model_scores import OpenModel
    from urm_hf.report.output import write_results

    loading = read_loading(args)  # what does not go together is told before data is read
    each = [_spread(args, name) for name in ("kind", "split", "data_config", "data_revision", "format")]
    shared = {
        "columns": PreferenceColumns(args.prompt_column, args.chosen_column, args.rejected_column, args.subset_column),
        "attributes": args.attributes,
        "on_error": args.on_error,
        "ignore": args.ignore_columns,
        "max_prompts": args.max_prompts,
        "seed": args.seed,
    }
    loaded = [
        load_data(source, DataOptions(kind, split, config, revision, format=form, **shared))
        for source, kind, split, config, revision, form in zip(args.data, *each, strict=True)
    ]
    # two files may be called the same in different folders; their scores are kept by name
    data = rename_data(loaded, args.data_names) if args.data_names else number_names(loaded)
    models = [
        JudgeVerdicts(source, name) if is_verdict_file(source) else OpenModel(source, name, loading, revision)
        for source, revision, name in zip(args.models, revisions, names, strict=True)
    ]
    statistics = Statistics(args.bootstrap_samples, args.seed, args.filter, _read_attribute_map(args.attribute_map))
    results = evaluate(models, data, args.out / "scores", statistics)
    write_results(replace(results, command=shlex.join(["urm", "evaluate", *argv])), args.out)
    return 0


def _check_names(names: list[str], option: str, of: list[str], what: str):
    """They are headings of tables, and names of files."""
    check_distinct(names, option, of, what)
    # "..", and what would lie in another folder
    unfit = next((name for name in names if not name.strip(" .") or "/" in name or "\\" in name), None)
    if unfit is not None:
        raise ValueError(f"{option}: {unfit!r} cannot be the name of a file; leave out '/'.")
    reserved = next((name for name in names if what == "model" and name in BASELINES), None)
    if reserved:
        raise ValueError(f"{option}: {reserved!r} is a baseline; call the model something else.")


def _read_attribute_map(pairs: list[str] | None) -> dict[str, str] | None:
    """The data's name of an attribute for each name that models give it."""
    if pairs is None:
        return None
    wrong = next((pair for pair in pairs if pair.count("=") != 1), None)
    if wrong:
        raise ValueError(f"--attribute-map takes MODEL=DATA, the names of two attributes, got {wrong!r}.")
    return dict(pair.split("=") for pair in pairs)


def _spread(args: argparse.Namespace, name: str) -> list[str | None]:
    """The values of an option that is given once for all data, or once for each."""
    values = getattr(args, name)
    if values is None:
        return [None] * len(args.data)
    if len(values) == 1:
        return values * len(args.data)
    if len(values) != len(args.data):
        option = f"--{name.replace('_', '-')}"
        raise ValueError(f"{option} needs one value, or one for each of the {len(args.data)} data sets, got {values}.")
    return values
