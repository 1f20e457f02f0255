"""
`urm filter`: keep what the model is sure of, of a file that `urm score` wrote.

Give one of --keep, --threshold and --target-error. Sides of pairs (`chosen`, `rejected`) are kept or dropped together
and written as pairs again, ready to train on; other rows are written as they are.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable
from urm_hf.cli.same_model import check_same_model

if TYPE_CHECKING:  # `--help` answers at once
    from urm_hf.uncertainty.filtering import Filtered, FittedThreshold
    from urm_hf.uncertainty.scored_rows import ScoredPair

ENDINGS = (".jsonl", ".jsonl.gz")


def build_parser() -> Parser:
    parser = Parser(prog="urm filter", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="A file that `urm score` wrote.")
    parser.add_argument("--out", required=True, help="The file to write, .jsonl or .jsonl.gz; - is standard output.")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--keep", type=float, help="The share to keep, in (0, 1]: those that the model is surest of.")
    how.add_argument("--threshold", type=float, help="The largest uncertainty that is kept.")
    how.add_argument(
        "--target-error",
        type=float,
        help="The largest share of kept pairs that may be preferred wrongly. The threshold is fitted on --labels.",
    )
    parser.add_argument(
        "--labels", help="Pairs of known preference, scored by the same model with `urm score`, for --target-error."
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        help="The probability that --target-error is kept to. The default is 0.95.",
    )
    parser.add_argument(
        "--testing",
        default="bonferroni",
        choices=["bonferroni", "fixed_sequence"],
        help="How several shares are tested for --target-error. In a fixed sequence more is kept where the measure "
        "sorts well, and nothing where the smallest share fails. The default is bonferroni.",
    )
    parser.add_argument(
        "--measure",
        help="The uncertainty. The default is probability_near_half of pairs, which only they have: how near to 1/2 "
        "the model's own probability is that the chosen answer is better. Of other rows, and where a model gives no "
        "reward_std, it is epistemic if the model gives it, else reward_std.",
    )
    parser.add_argument(
        "--above",
        default="either",
        choices=["either", "both"],
        help="Drop a pair when either answer is above the threshold (the default), or only when both are; of a "
        "--measure that each answer has.",
    )
    parser.add_argument("--dropped", help="A file for what is dropped, .jsonl or .jsonl.gz.")
    parser.add_argument("--overwrite", action="store_true", help="Replace existing output.")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    _check_arguments(args)
    from urm_hf.uncertainty.scored_rows import is_side, join_pairs, read_scored

    rows = read_scored(args.file)
    pairs = join_pairs(rows, args.file) if any(map(is_side, rows)) else None
    if pairs is None and args.target_error is not None:
        raise ValueError(f"{args.file} holds no pairs, and --target-error promises something about pairs only.")
    measure = args.measure or _choose_measure(rows, of_pairs=pairs is not None)
    _check_of_pairs(args, measure, of_pairs=pairs is not None)
    found = _filter(args, rows, pairs, measure)
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row, keep in zip([pair.row() for pair in pairs] if pairs else rows, found.kept, strict=True):
        (kept if keep else dropped).append(row)
    _write(args.out, kept)
    if args.dropped:
        _write(args.dropped, dropped)
    print(printable(_describe(args.file, pairs, found, measure)), file=sys.stderr)
    return 0


def _check_arguments(args: argparse.Namespace):
    """All that can be told before a file is read."""
    from urm_hf.data.outputs import check_output_file
    from urm_hf.uncertainty.filtering import PROBABILITY_NEAR_HALF
    from urm_hf.uncertainty.measures import MEASURES

    known = [*MEASURES, PROBABILITY_NEAR_HALF]
    if args.measure is not None and args.measure not in known:
        raise ValueError(f"--measure must be one of {', '.join(known)}, got {args.measure!r}.")
    if (args.target_error is None) != (args.labels is None):
        raise ValueError("--target-error and --labels go together: the labels show how often the model is wrong.")
    for name, low in (("keep", "(0, 1]"), ("target_error", "(0, 1)"), ("confidence", "(0, 1)")):
        value = getattr(args, name)
        if value is not None and not (0 < value < 1 or (name == "keep" and value == 1)):
            raise ValueError(f"--{name.replace('_', '-')} must lie in {low}, got {value}.")
    written = [out for out in (args.out, args.dropped) if out not in (None, "-")]
    if len(written) == 2 and Path(args.out).resolve() == Path(args.dropped).resolve():
        raise ValueError(f"--out and --dropped are both {args.out}; name two files.")
    for out in written:
        if not out.lower().endswith(ENDINGS):
            raise ValueError(f"{out} must end in {' or '.join(ENDINGS)}.")
        check_output_file(Path(out), [name for name in (args.file, args.labels) if name], overwrite=args.overwrite)


def _choose_measure(rows: Sequence[dict[str, Any]], *, of_pairs: bool) -> str:
    """
    Of pairs how unsure it is which answer is better, which is another question than whether they are familiar. Of rows
    what the model does not know, where it says so; else how far its reward may be off.
    """
    from urm_hf.uncertainty.filtering import PROBABILITY_NEAR_HALF
    from urm_hf.uncertainty.measures import available

    given = available(rows)
    if of_pairs and "reward_std" in given:
        return PROBABILITY_NEAR_HALF
    return "epistemic" if "epistemic" in given else "reward_std"


def _check_of_pairs(args: argparse.Namespace, measure: str, *, of_pairs: bool):
    """What goes with pairs alone, and what does not go with the measure that they have as pairs."""
    from urm_hf.uncertainty.filtering import PROBABILITY_NEAR_HALF

    if measure != PROBABILITY_NEAR_HALF:
        return
    if not of_pairs:
        raise ValueError(f"{args.file} holds no pairs (`chosen`, `rejected`), and --measure {measure} is of a pair.")
    if args.above != "either":
        raise ValueError(
            f"--above {args.above} joins the uncertainties of two answers, and {measure} is of the pair: name a "
            "--measure that answers have, such as reward_std, or leave --above out."
        )


def _filter(
    args: argparse.Namespace, rows: Sequence[dict[str, Any]], pairs: "list[ScoredPair] | None", measure: str
) -> "Filtered":
    from urm_hf.uncertainty.filtering import filter_pairs, filter_scores

    threshold = args.threshold if args.labels is None else _fit(args, rows, measure)
    if pairs is None:
        return filter_scores(rows, measure, threshold=threshold, keep=args.keep)
    sides = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    return filter_pairs(*sides, measure, threshold=threshold, keep=args.keep, above=args.above)


def _fit(args: argparse.Namespace, rows: Sequence[dict[str, Any]], measure: str) -> "FittedThreshold":
    """The threshold that keeps the promise on the labelled pairs, which is told; an error where none does."""
    from urm_hf.uncertainty.filtering import compute_pair_uncertainty, fit_threshold
    from urm_hf.uncertainty.scored_rows import join_pairs, read_scored

    labelled = read_scored(args.labels)
    note = check_same_model([args.file, args.labels], [rows, labelled])
    if note is not None:
        print(printable(note), file=sys.stderr)
    pairs = join_pairs(labelled, args.labels)
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    fitted = fit_threshold(
        compute_pair_uncertainty(chosen, rejected, measure, args.above),
        [pair.correct for pair in pairs],
        target_error=args.target_error,
        confidence=args.confidence,
        testing=args.testing,
        groups=[pair.prompt for pair in pairs],
    )
    lines = str(fitted).splitlines()
    if fitted.threshold is None:
        lines = lines[1:]  # the error that follows says why there is none
    for line in lines:
        print(printable(line), file=sys.stderr)
    return fitted


def _write(out: str, rows: list[dict[str, Any]]):
    import gzip

    from urm_hf.data.outputs import json_lines, json_text, write_whole

    if out == "-":
        for row in rows:
            print(json_text(row, ensure_ascii=True))  # what terminals must not get is escaped as JSON escapes it
        return
    content = json_lines(rows)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(out), gzip.compress(content, mtime=0) if out.lower().endswith(".gz") else content)


def _describe(file: str, pairs: "list[ScoredPair] | None", found: "Filtered", measure: str) -> str:
    """What was kept and dropped; of pairs, how often the model agrees with their preference in both parts."""
    what = "rows" if pairs is None else "pairs"
    if not found.n_dropped:
        return f"{file}: all {len(found.kept):,} {what} kept."
    told = (
        f"{file}: {found.n_kept:,} of {len(found.kept):,} {what} kept; {found.n_dropped:,} dropped, whose "
        f"{measure} is above {found.threshold:.4g}."
    )
    if not pairs or not found.n_kept:
        return told
    agreed = [
        sum(pair.correct for pair, keep in zip(pairs, found.kept, strict=True) if keep == side)
        for side in (True, False)
    ]
    shares = agreed[0] / found.n_kept, agreed[1] / found.n_dropped
    return (
        f"{told} The model prefers the chosen answer in {shares[0]:.1%} of the kept and {shares[1]:.1%} of the rest."
    )
