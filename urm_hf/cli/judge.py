"""
`urm judge`: which of two answers an LLM prefers, asked twice with their places swapped. Killed, it can be run again.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

EPILOG = """
A row holds an instruction and two answers: `prompt` with `chosen` and `rejected`, or two columns that --answer-columns
names; text or messages. With --against, two files hold one answer to each prompt. docs/judge.md explains the numbers.
"""
DEFAULT_KEY = "OPENAI_API_KEY"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm judge", description=__doc__, epilog=EPILOG)
    parser.add_argument("model", help="the judge, as the endpoint calls it; a dated name, if there is one")
    parser.add_argument("--base-url", required=True, help="OpenAI-compatible, such as http://localhost:8000/v1")
    parser.add_argument("--data", required=True, help="file (.jsonl, .jsonl.gz, .parquet, .csv) or Hub dataset")
    parser.add_argument("--out", required=True, type=Path, help="file to write (.jsonl); a summary comes beside it")
    parser.add_argument("--against", help="file of other answers to the prompts of --data, whose answers win or lose")
    parser.add_argument("--split", help="split of a Hub dataset, or value in a file's column `split`")
    parser.add_argument("--data-config", help="configuration of a Hub dataset")
    parser.add_argument("--data-revision", help="commit, branch or tag of a Hub dataset")
    parser.add_argument("--prompt-column", help="(default: prompt, or a name that data are known to use)")
    parser.add_argument("--answer-columns", nargs="+", metavar="COLUMN", help="two answers: the first wins or loses")
    parser.add_argument("--bootstrap-samples", type=int, default=1000, help="for intervals (default: 1000)")
    parser.add_argument("--dry-run", action="store_true", help="print the first request, count all, ask nothing")

    asked = parser.add_argument_group("what is asked (a change needs another --out)")
    asked.add_argument("--temperature", type=float, default=0.0, help="(default: 0)")
    asked.add_argument("--seed", type=int, default=0, help="of requests, names and intervals (default: 0)")
    asked.add_argument("--max-tokens", type=int, default=512, help="more for a judge that thinks first (default: 512)")
    asked.add_argument("--fields", default="{}", help="JSON object of further fields of a request; null removes one")
    asked.add_argument(
        "--names",
        default="secret",
        choices=["secret", "paper"],
        help="what answers are called: secret is drawn for each request, paper is model_1 and model_2",
    )
    asked.add_argument("--reply-attempts", type=int, default=1, help="replies until one can be parsed (default: 1)")

    how = parser.add_argument_group("how it is asked")
    how.add_argument(
        "--api-key-env",
        metavar="NAME",
        help=f"environment variable with the API key (default: {DEFAULT_KEY}, sent over https or to this machine)",
    )
    how.add_argument("--concurrency", type=int, default=8, help="requests at once (default: 8)")
    how.add_argument("--timeout", type=float, default=120.0, help="seconds for an answer (default: 120)")
    how.add_argument("--max-attempts", type=int, default=6, help="for one request (default: 6)")
    how.add_argument("--backoff", type=float, default=1.0, help="seconds before the second, then doubled (default: 1)")
    how.add_argument("--max-wait", type=float, default=60.0, help="longest pause, also on Retry-After (default: 60)")
    how.add_argument("--stop-after", type=int, default=20, help="failures in a row that end the run (20; 0: never)")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.answer_columns and len(args.answer_columns) != (1 if args.against else 2):
        raise ValueError("--answer-columns names two columns; with --against one, that of both files.")
    from urm_hf.data.answers import Columns
    from urm_hf.judge.client import JudgeClient
    from urm_hf.judge.job import JudgeJob
    from urm_hf.judge.output import summary_path

    fields = {"model": args.model, "temperature": args.temperature, "max_tokens": args.max_tokens}
    client = JudgeClient(
        args.base_url,
        fields | _object(args.fields),
        _api_key(args.api_key_env, args.base_url),
        timeout=args.timeout,
        max_attempts=args.max_attempts,
        backoff=args.backoff,
        max_wait=args.max_wait,
    )
    job = JudgeJob(
        client,
        args.data,
        args.out,
        against=args.against,
        split=args.split,
        data_config=args.data_config,
        data_revision=args.data_revision,
        columns=Columns(args.prompt_column, tuple(args.answer_columns) if args.answer_columns else None),
        seed=args.seed,
        reply_attempts=args.reply_attempts,
        names=args.names,
        concurrency=args.concurrency,
        stop_after=args.stop_after,
        bootstrap_samples=args.bootstrap_samples,
    )
    if args.dry_run:
        print(_first_request(job))
        return 0
    summary = job.run(progress=True)
    print(_table(summary))
    print(f"{args.out}, {summary_path(args.out)}", file=sys.stderr)
    return 0


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--fields is not JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"--fields must be a JSON object, got {type(fields).__name__}.")
    return fields


def _api_key(name: str | None, base_url: str) -> str | None:
    from urm_hf.judge.client import is_private_channel

    if name is not None and not os.environ.get(name):
        # its name is not repeated: it may be a key that was given in place of one
        raise ValueError("--api-key-env: there is no environment variable of that name, or it is empty.")
    if name is None and not is_private_channel(base_url):
        return None
    return os.environ.get(name or DEFAULT_KEY) or None


def _first_request(job: Any) -> str:
    pairs = list(job.pairs())
    messages = job.messages(pairs[0], 0)
    characters = sum(len(m["content"]) for pair in pairs for order in (0, 1) for m in job.messages(pair, order))
    shown = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
    return (
        f"{shown}\n\n{len(pairs)} pairs are {2 * len(pairs)} requests of {characters} characters in all, about "
        f"{characters // 4} tokens of English. Replies are cut at max_tokens."
    )


def _table(summary: dict[str, Any]) -> str:
    """The summary as lines for a terminal."""
    a, b = summary["a"], summary["b"]
    lines = [f"{summary['judged']} of {summary['pairs']} pairs judged, {summary['prompts']} prompts"]
    if summary["not_judged"]:
        lines[0] += f"; requests: {summary['unparseable']} UNPARSEABLE, {summary['failed']} FAILED"
    told = {
        "win": f"{a} wins",
        "tie": "tie (the two orders disagree)",
        "loss": f"{b} wins",
        "win_rate": f"win rate of {a}, ties half",
        "agreement": "agreement with the label, ties wrong",
        "agreement_of_consistent": "agreement where the orders agree",
        "win_rate_a_first": f"{a} wins, shown first",
        "win_rate_b_first": f"{a} wins, shown second",
        "first_preferred": "first place preferred (0.5: no bias)",
    }
    width = max(map(len, told.values()))
    for name, text in told.items():
        if name in summary:
            share = summary[name]
            interval = "" if share["interval"] is None else " [{:.3f}, {:.3f}]".format(*share["interval"])
            lines.append(f"  {text:<{width}}  {share['share']:.3f}{interval}")
    if faults := summary["faulty_attempts"]:
        lines.append("attempts that failed: " + ", ".join(f"{count} x {told}" for told, count in faults.items()))
    return "\n".join(lines)
