"""
Scores of several models on one frozen backbone, which runs once for all of them.

    python examples/frozen_scores.py urm-mle urm-regression urme/ensemble --data pairs.jsonl.gz best_of_n.jsonl.gz \
        --dtype bfloat16 --out scores

writes OUT/urm-mle.jsonl, ..., each with the conversations of all data, which `urm evaluate OUT/*.jsonl --data
pairs.jsonl.gz` and `urm bestofn OUT/*.jsonl --data best_of_n.jsonl.gz` read. Hidden states are kept in `$URM_CACHE`.
"""

import argparse
import json
from pathlib import Path

from urm_hf import RewardScorer
from urm_hf.cli.model_arguments import short_names
from urm_hf.data import load_rows
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversation_keys import as_row, conversation_key
from urm_hf.scoring import output_rows
from urm_hf.scoring.features import output_of_cached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--split", help="of the data")
    parser.add_argument("--dtype", default="float32", help="of the backbone")
    parser.add_argument("--truncation", default="error", choices=["error", "left", "right"])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    conversations = distinct(args.data, args.split)
    for name, model in zip(short_names(args.models), args.models, strict=True):
        scorer = RewardScorer(model, dtype=args.dtype, truncation=args.truncation)
        ids, cut = scorer.encode(conversations)
        rows = output_rows(output_of_cached(scorer.model, ids, scorer.tokenizer.pad_token_id), scorer.attributes)
        with open(args.out / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for conversation, score, tokens, truncated in zip(conversations, rows, ids, cut, strict=True):
                row = as_row(conversation) | score | {"n_tokens": len(tokens), "truncated": truncated}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{args.out / name}.jsonl: {len(rows)} conversations, {sum(cut)} truncated")


def distinct(data: list[str], split: str | None) -> list:
    """Conversations of all files, equal ones once. Candidates without an answer are left out and counted."""
    found, empty = {}, 0
    for path in data:
        for row in load_rows(path, split):
            for columns, conversation in conversations_of(row, Columns()):
                if not str(columns.get("response", "-")).strip():
                    empty += 1
                    continue
                found.setdefault(conversation_key(conversation), conversation)
    if empty:
        print(f"{empty} empty answers left out")
    return list(found.values())


if __name__ == "__main__":
    main()
