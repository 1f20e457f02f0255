"""`urm score`: rows in, rows with rewards and uncertainties out."""

import argparse
import json
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm score", description=__doc__)
    parser.add_argument("model", nargs="+", help="a model (repository or folder); several make an ensemble")
    parser.add_argument("--data", required=True, help="file (.jsonl, .jsonl.gz, .parquet, .csv) or Hub dataset")
    parser.add_argument("--split", help="split of a Hub dataset, or value in a file's column `split`")
    parser.add_argument("--out", required=True, type=Path, help="JSON-lines file to write")
    parser.add_argument("--max-length", type=int, help="longest conversation in tokens (default: the model's limit)")
    parser.add_argument("--truncation", default="error", choices=["error", "left", "right"])
    parser.add_argument("--max-tokens-per-batch", type=int, default=8192)
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16", "auto"],
        help="of the backbone (default: float32)",
    )
    parser.add_argument("--revision", nargs="+", help="commit, branch or tag: one for each model")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that a checkpoint brings")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.revision and len(args.revision) != len(args.model):
        raise ValueError(f"--revision needs one entry for each of the {len(args.model)} models.")
    from urm_hf.data import load_rows
    from urm_hf.scoring import RewardScore, RewardScorer

    rows = load_rows(args.data, args.split)
    taken = [name for name in RewardScore.__dataclass_fields__ if name in rows.column_names]
    if taken:
        raise ValueError(f"{args.data} has columns that the scores would overwrite: {', '.join(taken)}. Rename them.")
    limits = {
        "max_tokens_per_batch": args.max_tokens_per_batch,
        "max_length": args.max_length,
        "truncation": args.truncation,
    }
    if len(args.model) == 1:
        revision = args.revision[0] if args.revision else None
        trust = args.trust_remote_code
        scorer = RewardScorer(args.model[0], revision=revision, trust_remote_code=trust, dtype=args.dtype, **limits)
    else:
        from urm_hf.modeling import URMEnsemble

        ensemble = URMEnsemble.from_pretrained(args.model, revisions=args.revision, dtype=args.dtype)
        scorer = RewardScorer(ensemble, **limits)
    scores = scorer.score(rows, progress=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_name(args.out.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        for row, score in zip(rows, scores, strict=True):
            file.write(json.dumps({**row, **dict(score.items())}, ensure_ascii=False, default=str) + "\n")
    temporary.replace(args.out)
    stats = scorer.stats
    print(
        f"{len(rows)} rows in, {len(scores)} scored, {stats['truncated']} truncated, {stats['tokens']} tokens: "
        f"{args.out}",
        file=sys.stderr,
    )
    return 0
