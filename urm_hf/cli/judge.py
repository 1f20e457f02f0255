"""
`urm judge`: which of two answers an LLM prefers, asked twice with their places swapped. Killed, it can be run again.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from urm_hf.cli.model_arguments import add_bootstrap_samples, add_data_arguments, add_prompt_column
from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable

EPILOG = """
A row holds an instruction and two answers: `prompt` with `chosen` and `rejected`, or two columns that --answer-columns
names; text or messages. With --against, two files hold one answer to each prompt. docs/judge.md explains the numbers.
"""
DEFAULT_KEY = "OPENAI_API_KEY"


def build_parser() -> Parser:
    # `--names` are those of models elsewhere
    parser = Parser(prog="urm judge", description=__doc__, epilog=EPILOG, aliases={"--names": "--answer-names"})
    parser.add_argument("model", help="The judge, as the endpoint calls it: a dated name, if there is one.")
    parser.add_argument(
        "--base-url", required=True, help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1."
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--out", required=True, type=Path, help="The file to write (.jsonl); a summary comes beside it."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace verdicts and a summary that are of another origin."
    )
    parser.add_argument(
        "--against", help="A file of other answers to the prompts of --data, against which those win or lose."
    )
    add_prompt_column(parser)
    parser.add_argument(
        "--answer-columns",
        nargs="+",
        metavar="COLUMN",
        help="The columns of the two answers, of which the first wins or loses.",
    )
    add_bootstrap_samples(parser)
    parser.add_argument("--dry-run", action="store_true", help="Print the first request, count all, and ask nothing.")
    _add_content_of_requests(parser)
    _add_way_of_asking(parser)
    return parser


def _add_content_of_requests(parser: Parser):
    asked = parser.add_argument_group("what is asked (a change needs another --out)")
    asked.add_argument("--temperature", type=float, default=0.0, help="The judge's temperature. The default is 0.")
    asked.add_argument(
        "--seed", type=int, default=0, help="The seed of requests, names and intervals. The default is 0."
    )
    asked.add_argument(
        "--max-tokens",
        type=int,
        default=512,
        help="The length of a reply. The default is 512; a judge that thinks first needs more.",
    )
    asked.add_argument(
        "--fields", default="{}", help="A JSON object of further fields of a request, of which null removes one."
    )
    asked.add_argument(
        "--answer-names",
        default="secret",
        choices=["secret", "paper"],
        help="What answers are called: drawn for each request (secret, the default), or model_1 and model_2 (paper).",
    )
    asked.add_argument(
        "--reply-attempts", type=int, default=1, help="How many replies are asked for until one can be parsed."
    )


def _add_way_of_asking(parser: Parser):
    how = parser.add_argument_group("how it is asked")
    how.add_argument(
        "--api-key-env",
        metavar="NAME",
        help=f"The variable with the API key. The default is {DEFAULT_KEY}, over https or to this machine.",
    )
    how.add_argument("--concurrency", type=int, default=8, help="How many requests run at once. The default is 8.")
    how.add_argument("--timeout", type=float, default=120.0, help="Seconds to wait for an answer. The default is 120.")
    how.add_argument("--max-attempts", type=int, default=6, help="How often a request is sent. The default is 6.")
    how.add_argument(
        "--backoff", type=float, default=1.0, help="Seconds before the second attempt, then doubled. The default is 1."
    )
    how.add_argument(
        "--max-wait", type=float, default=60.0, help="The longest pause, also on Retry-After. The default is 60 s."
    )
    how.add_argument(
        "--stop-after",
        type=int,
        default=20,
        help="How many failures in a row end the run. The default is 20; 0 is never.",
    )


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    expected = 1 if args.against else 2
    if args.answer_columns and len(args.answer_columns) != expected:
        raise ValueError("--answer-columns names two columns; with --against one, that of both files.")
    from urm_hf.data.answers import Columns
    from urm_hf.judge.client import JudgeClient
    from urm_hf.judge.job import JudgeJob
    from urm_hf.judge.output import summary_path

    fields = {"model": args.model, "temperature": args.temperature, "max_tokens": args.max_tokens}
    client = JudgeClient(
        args.base_url,
        fields | _read_object(args.fields),
        read_api_key(args.api_key_env, args.base_url),
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
        columns=Columns(
            args.prompt_column,
            tuple(args.answer_columns) if args.answer_columns else None,
            format=args.format,
            ignore=tuple(args.ignore_columns),
        ),
        seed=args.seed,
        reply_attempts=args.reply_attempts,
        names=args.answer_names,
        concurrency=args.concurrency,
        stop_after=args.stop_after,
        bootstrap_samples=args.bootstrap_samples,
        overwrite=args.overwrite or args.dry_run,  # a dry run writes nothing, so that nothing can be in its way
    )
    if args.dry_run:
        print(_describe_first_request(job))
        return 0
    summary = job.run(progress=True)
    print(_format_table(summary))
    print(printable(f"{args.out}, {summary_path(args.out)}"), file=sys.stderr)
    return 0


def _read_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--fields is not JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"--fields must be a JSON object, got {type(fields).__name__}.")
    return fields


def read_api_key(name: str | None, base_url: str) -> str | None:
    """The key for an endpoint: from the variable of that name, or the default one where nobody else can read it."""
    from urm_hf.judge.client import is_private_channel

    if name is not None and not os.environ.get(name):
        # its name is not repeated: it may be a key that was given in place of one
        raise ValueError("--api-key-env: there is no environment variable of that name, or it is empty.")
    if name is None and not is_private_channel(base_url):
        return None
    return os.environ.get(name or DEFAULT_KEY) or None


def _describe_first_request(job: Any) -> str:
    pairs = list(job.pairs())
    messages = job.messages(pairs[0], 0)
    characters = sum(len(m["content"]) for pair in pairs for order in (0, 1) for m in job.messages(pair, order))
    shown = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
    return (
        f"{shown}\n\n{len(pairs)} pairs are {2 * len(pairs)} requests of {characters} characters in all, about "
        f"{characters // 4} tokens of English. Replies are cut at max_tokens."
    )


def _format_table(summary: dict[str, Any]) -> str:
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
