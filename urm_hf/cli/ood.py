"""
`urm ood`: does uncertainty tell unfamiliar conversations from familiar ones, and does it know more than length?

Reads two files that `urm score` wrote with one model, and prints AUROC and FPR at 95 % recall of every measure, with
intervals, beside detectors that know nothing. docs/uncertainty.md explains them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urm_hf.cli.model_arguments import add_statistics_arguments, check_positive
from urm_hf.cli.parser import Parser
from urm_hf.cli.same_model import check_same_model


def build_parser() -> Parser:
    parser = Parser(prog="urm ood", description=__doc__)
    parser.add_argument("known", metavar="KNOWN", help="Scores of conversations like those of training.")
    parser.add_argument("unknown", metavar="UNKNOWN", help="Scores of others, by the same model.")
    parser.add_argument(
        "--measures", nargs="+", help="The uncertainties to assess. The default is all that the model gives."
    )
    parser.add_argument("--plot", type=Path, help="A picture to write: histograms and ROC curves, .png, .svg or .pdf.")
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing picture.")
    add_statistics_arguments(parser)
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    _check_arguments(args)
    from urm_hf.uncertainty.ood import ood_report
    from urm_hf.uncertainty.scored_rows import read_scored

    known, unknown = read_scored(args.known), read_scored(args.unknown)
    if known == unknown:
        raise ValueError(
            f"{args.known} and {args.unknown} hold the same scores: KNOWN and UNKNOWN must be of different "
            "conversations, or there is nothing to tell apart."
        )
    note = check_same_model([args.known, args.unknown], [known, unknown])
    texts, prompts = _read_texts(known), _read_prompts(known)
    others, other_prompts = _read_texts(unknown), _read_prompts(unknown)
    for name, rows, told in ((args.known, known, prompts), (args.unknown, unknown, other_prompts)):
        several = len(rows) if prompts is None or other_prompts is None else len(set(told or ()))
        if several < 2:
            raise ValueError(f"{name} has {len(rows)} rows of one prompt: at least two prompts show how they vary.")
    report = ood_report(
        known,
        unknown,
        measures=args.measures,
        texts=None if texts is None or others is None else (texts, others),
        groups=None if prompts is None or other_prompts is None else (prompts, other_prompts),
        n_resamples=args.bootstrap_samples,
        seed=args.seed,
    )
    print(report)
    if note is not None:
        print(note, file=sys.stderr)
    if args.plot is not None:
        report.plot(args.plot)
        print(f"the picture: {args.plot}")
    return 0


def _check_arguments(args: argparse.Namespace):
    """All that can be told before a file is read."""
    check_positive(args, "bootstrap_samples")
    if args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {args.seed}.")
    from urm_hf.data.outputs import check_output_file
    from urm_hf.uncertainty.measures import MEASURES

    unknown = next((name for name in args.measures or [] if name not in MEASURES), None)
    if unknown is not None:
        raise ValueError(f"--measures must be among {', '.join(MEASURES)}, got {unknown!r}.")
    if args.plot is None:
        return
    import matplotlib  # noqa: F401  # that it is missing is told before any work

    if args.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot {args.plot} must end in .png, .svg or .pdf.")
    check_output_file(args.plot, [args.known, args.unknown], overwrite=args.overwrite)


def _read_texts(rows: Sequence[dict[str, Any]]) -> list[str] | None:
    """The answers, where every row has one as text."""
    answers = [row.get("response", row.get("completion")) for row in rows]
    texts = [answer for answer in answers if isinstance(answer, str) and answer]
    return texts if len(texts) == len(rows) else None


def _read_prompts(rows: Sequence[dict[str, Any]]) -> list[str] | None:
    """What answers to one prompt have in common, where every row has a prompt."""
    from urm_hf.uncertainty.scored_rows import prompt_key

    return None if any(row.get("prompt") is None for row in rows) else [prompt_key(row) for row in rows]
