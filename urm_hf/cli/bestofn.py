"""
`urm bestofn`: the best of each prompt's candidates by a model, and how good that is for n = 1, 2, 4, ... of them.
"""

import argparse
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urm_hf.cli.bestofn_policy import (
    GOLD,
    add_gold,
    add_policy_arguments,
    check_policy_arguments,
    judge_selections,
    sample,
)
from urm_hf.cli.model_arguments import (
    add_data_arguments,
    add_judged_models,
    add_model_arguments,
    add_prompt_column,
    add_server_argument,
    add_statistics_arguments,
    check_distinct,
    check_positive,
    read_loading,
    read_revisions,
    short_names,
)
from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable

if TYPE_CHECKING:
    from urm_hf.bestofn.data import Candidates
    from urm_hf.bestofn.results import Selection
    from urm_hf.bestofn.rules import Rule
    from urm_hf.evaluation.model_scores import Loading

SCHEMA = "urm-hf best-of-n"  # of results.json
EPILOG = """
A row is a prompt with a list of answers: `candidates`, `responses` or `completions`; texts, messages, or objects with
`response` and fields of their own. With --gold it writes DIR/results.json and DIR/best_of_n.png, always
DIR/chosen.jsonl. Scores stay in DIR/scores: the same command again reads them, or goes on where it was interrupted.
With --policy the answers are sampled first, into DIR/candidates.jsonl, and the choices judged as --judge says.
docs/best_of_n.md explains the numbers.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm bestofn", description=__doc__, epilog=EPILOG)
    add_judged_models(parser)
    add_data_arguments(parser, required=False)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="The folder to write to.")
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace files in the folder that are of another origin."
    )
    parser.add_argument(
        "--gold", help="What a candidate is worth, higher is better: the name of its field, or of a column of lists."
    )
    parser.add_argument(
        "--candidates-column", help="The column of answers. The default is candidates, responses or completions."
    )
    add_prompt_column(parser)
    parser.add_argument("--max-prompts", type=int, help="Use only so many rows, drawn with the seed.")

    add_policy_arguments(parser)
    rules = parser.add_argument_group("choosing")
    rules.add_argument(
        "--select",
        default="reward",
        choices=["reward", "min", "mean_minus_k_std", "filtered"],
        help="The rule that chosen.jsonl follows, by default reward. The curves show all that a model can be asked.",
    )
    rules.add_argument("--k", type=float, default=1.0, help="The k of mean_minus_k_std. The default is 1.")
    rules.add_argument(
        "--filter-measure",
        help="The measure of filtered. The default is reward_gap, of a single URM attribute_variance.",
    )
    rules.add_argument(
        "--filter-threshold", type=float, help="The largest value of the measure with which a candidate is eligible."
    )
    rules.add_argument("--keep", type=float, help="The share of all candidates that is eligible. The default is 0.8.")

    add_statistics_arguments(parser)
    add_model_arguments(parser)
    add_server_argument(parser)
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    names, revisions = _check_arguments(args)
    from urm_hf.bestofn.data import read_candidates
    from urm_hf.bestofn.rules import Rule
    from urm_hf.bestofn.text import describe_counts
    from urm_hf.data.answers import Columns
    from urm_hf.data.outputs import check_output_folder, has_schema
    from urm_hf.data.source import Source

    report = ["results.json", "best_of_n.png"] if args.gold or args.judge else []
    own = (args.out / "scores").is_dir() or has_schema(args.out / "results.json", SCHEMA)
    check_output_folder(args.out, ["chosen.jsonl", *report], own=own, overwrite=args.overwrite)
    filtering = {"measure": args.filter_measure, "threshold": args.filter_threshold, "keep": args.keep}
    select = Rule(args.select, args.k, **(filtering if args.select == "filtered" else {}))
    Rule("filtered", args.k, **filtering)  # what is out of range is told before models are loaded
    loading = read_loading(args)
    if args.policy:
        sample(args)
    source = Source(args.data, args.split, args.data_config, args.data_revision, strict=True)
    columns = Columns(
        args.prompt_column,
        (args.candidates_column,) if args.candidates_column else None,
        format=args.format,
        ignore=tuple(args.ignore_columns),
    )
    rows = _draw_rows(read_candidates(source, columns, args.gold), args)
    print(describe_counts(rows, args.gold or args.policy))
    # every candidate that has a text, prompt by prompt: a model computes what they share once
    asked = [(row, k) for row in rows for k, empty in enumerate(row.empty) if not empty]
    if not asked:
        raise ValueError(f"{args.data}: every candidate is empty, so that there is nothing to choose from.")
    origins = [f"{args.data}, row {row.row}, candidate {k}" for row, k in asked]
    conversations = [row.conversations[k] for row, k in asked], origins
    if args.judge == GOLD:
        rows = add_gold(args, rows, loading, conversations)
    models = list(zip(names, args.models, revisions, strict=True))
    _choose(args, argv, rows, models, loading, conversations, select, filtering)
    print(f"\nThe answers chosen by {select.name}: {args.out / 'chosen.jsonl'}")
    return 0


def _choose(
    args: argparse.Namespace,
    argv: list[str],
    rows: list["Candidates"],
    named: list[tuple[str, str, str | None]],
    loading: "Loading",
    conversations: tuple[list[Any], list[str]],
    select: "Rule",
    filtering: dict[str, Any],
):
    """Has every model score the conversations, and writes what it chooses, and what that is worth."""
    from urm_hf.bestofn.results import align_scores, build_chosen_rows, build_selection
    from urm_hf.bestofn.rules import read_kind, rules_for
    from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
    from urm_hf.data.outputs import json_lines, write_whole
    from urm_hf.evaluation.model_scores import OpenModel

    models, chosen, selections, selected = [], [], [], []
    for name, model, revision in named:
        opened = OpenModel(model, name, loading, revision)
        found = opened.scores(conversations[0], args.out / "scores", conversations[1])
        if opened.has_untrained_gate():
            print(printable(f"note: {name}: {UNTRAINED_GATE}."), file=sys.stderr)
        scores = align_scores(rows, found.scores)
        try:
            selected.append(build_selection(rows, name, select, scores))
            chosen += build_chosen_rows(rows, selected[-1], scores)
            for rule in rules_for(read_kind(found.scores), args.k, **filtering):
                selections.append(build_selection(rows, name, rule, scores))
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from error
        models.append({"name": name, "kind": found.kind, "source": model, "revision": found.revision})
    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(args.out / "chosen.jsonl", json_lines(chosen))
    if args.gold or args.judge == GOLD:
        _write_report(args, argv, rows, models, selections)
    elif args.judge:  # each choice is asked for: of the rules only the one that was asked for
        _write_report(args, argv, rows, models, selected)


def _check_arguments(args: argparse.Namespace) -> tuple[list[str], list[str | None]]:
    """A name and a revision for each model, if nothing is wrong that can be told before anything is loaded."""
    check_positive(args, "bootstrap_samples", "max_prompts")
    check_policy_arguments(args)
    names = args.names or short_names(args.models)
    check_distinct(names, "--names", args.models, "model")
    if args.policy and "gold" in names:
        raise ValueError("--names: `gold` is what the gold model is called; call the model something else.")
    if args.gold or args.judge:
        import matplotlib  # noqa: F401  # that it is missing is told before models score, not after
    return names, read_revisions(args)


def _draw_rows(rows: list["Candidates"], args: argparse.Namespace) -> list["Candidates"]:
    """All rows, or so many of them, drawn with the seed, in their order."""
    if args.max_prompts is None or args.max_prompts >= len(rows):
        return rows
    import numpy as np

    drawn = np.random.default_rng(args.seed).choice(len(rows), args.max_prompts, replace=False)
    return [rows[number] for number in sorted(drawn)]


def _write_report(
    args: argparse.Namespace,
    argv: list[str],
    rows: list["Candidates"],
    models: list[dict[str, Any]],
    selections: list["Selection"],
):
    """Table, sentences, results.json and plot."""
    import urm_hf
    from urm_hf.bestofn.plot import plot_best_of_n
    from urm_hf.bestofn.results import build_baselines, compute_results
    from urm_hf.bestofn.text import format_table, write_sentences
    from urm_hf.data.outputs import json_bytes, write_whole

    judged_by_llm = args.judge not in (None, GOLD)
    if judged_by_llm:  # what an oracle would choose is not known: most candidates are never judged
        found = judge_selections(args, rows, build_baselines(rows) + selections)
        gold = "win rate"
    else:
        found = compute_results(rows, build_baselines(rows) + selections, args.bootstrap_samples, args.seed)
        gold = args.gold or args.gold_model
    results = {
        "schema": SCHEMA,
        "version": 1,
        "urm_hf": urm_hf.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": shlex.join(["urm", "bestofn", *argv]),
        "seed": args.seed,
        "bootstrap_samples": args.bootstrap_samples,
        "data": {
            "name": Path(args.prompts or args.data).name.split(".")[0],
            "policy": args.policy,
            "source": args.prompts or args.data,
            "revision": args.data_revision,
            "split": args.split,
            "gold": gold,
            "rows": len(rows),
            "prompts": len({row.key for row in rows}),
            "candidates": sum(len(row.answers) for row in rows),
            "empty": int(sum(row.empty.sum() for row in rows)),
        },
        "models": models,
        **found,
    }
    path = args.out / "results.json"
    write_whole(path, json_bytes(results, indent=1))
    print(f"\n{format_table(results)}\n\n" + "\n".join(write_sentences(results)))
    print(f"\nWrote {path} and {plot_best_of_n(results, args.out / 'best_of_n.png')}")
