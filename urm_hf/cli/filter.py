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
        "--measure", help="The uncertainty. The default is epistemic where the model gives it, else reward_std."
    )
    parser.add_argument(
        "--above",
        default="either",
        choices=["either", "both"],
        help="Drop a pair when either answer is above the threshold (the default), or only when both are.",
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
    measure = args.measure or _choose_measure(rows)
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
    from urm_hf.uncertainty.measures import MEASURES

    if args.measure is not None and args.measure not in MEASURES:
        raise ValueError(f"--measure must be one of {', '.join(MEASURES)}, got {args.measure!r}.")
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


def _choose_measure(rows: Sequence[dict[str, Any]]) -> str:
    """What the model does not know, where it says so; else how far its reward may be off."""
    from urm_hf.uncertainty.measures import available

    return "epistemic" if "epistemic" in available(rows) else "reward_std"


def _filter(
    args: argparse.Namespace, rows: Sequence[dict[str, Any]], pairs: "list[ScoredPair] | None", measure: str
) -> "Filtered":
    from urm_hf.uncertainty.filtering import filter_pairs, filter_scores

    threshold = args.threshold if args.labels is None else _fit(args, measure)
    if pairs is None:
        return filter_scores(rows, measure, threshold=threshold, keep=args.keep)
    sides = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    return filter_pairs(*sides, measure, threshold=threshold, keep=args.keep, above=args.above)


def _fit(args: argparse.Namespace, measure: str) -> "FittedThreshold":
    """The threshold that keeps the promise on the labelled pairs, which is told; an error where none does."""
    from urm_hf.uncertainty.filtering import combine_pair_uncertainty, fit_threshold
    from urm_hf.uncertainty.measures import compute_uncertainty
    from urm_hf.uncertainty.scored_rows import join_pairs, read_scored

    pairs = join_pairs(read_scored(args.labels), args.labels)
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    sides = compute_uncertainty(chosen, measure), compute_uncertainty(rejected, measure)
    fitted = fit_threshold(
        combine_pair_uncertainty(*sides, args.above),
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
