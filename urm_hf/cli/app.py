"""
`urm app`: a page in your browser, to write two answers and see what the model thinks of them, and how sure it is.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from urm_hf.cli.model_arguments import add_model_arguments, check_positive, short_names
from urm_hf.cli.parser import Parser
from urm_hf.cli.printable import printable

if TYPE_CHECKING:
    from urm_hf.app.familiar import FamiliarSet
    from urm_hf.scoring.scorer import RewardScorer

EPILOG = """
With --familiar the page says whether a conversation looks unfamiliar: give at least 20 conversations like those that
the model was trained on, but not these themselves. Without it, it does not guess.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm app", description=__doc__, epilog=EPILOG)
    parser.add_argument("model", metavar="MODEL", help="A repository or folder. A,B,C are the members of an ensemble.")
    parser.add_argument("--host", default="127.0.0.1", help="Where to listen. The default is 127.0.0.1: this machine.")
    parser.add_argument("--port", type=int, help="The port. The default is the first free one from 7860.")
    parser.add_argument(
        "--no-auth", action="store_true", help="Let other machines use the page, where --host is reached from them."
    )
    parser.add_argument("--familiar", metavar="FILE", help="The rows by which the page calls others unfamiliar.")
    parser.add_argument(
        "--max-rows", type=int, default=1000, help="The most rows of an uploaded file. The default is 1000."
    )
    add_model_arguments(parser)
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "max_rows", "max_tokens_per_batch", "max_length", "port")
    if args.port is not None and args.port > 65535:
        raise ValueError(f"--port must be at most 65535, got {args.port}.")
    if args.familiar is not None and not Path(args.familiar).is_file():
        raise ValueError(f"--familiar: {args.familiar} is no file.")
    from urm_hf.app.page import build_page, launch_page  # first: it names the extra that brings the server, too
    from urm_hf.cli.serve import load_scorer

    check_visitors(args.host, no_auth=args.no_auth)

    scorer = load_scorer(args)
    familiar = read_familiar(scorer, args.familiar)
    page = build_page(scorer, short_names([args.model])[0], familiar, args.max_rows)
    address = launch_page(page, args.host, args.port, wait=False)
    print(printable(f"urm app: {address} ; Ctrl+C stops it."), file=sys.stderr, flush=True)
    page.block_thread()
    return 0


def check_visitors(host: str, *, no_auth: bool):
    """
    Raises:
        ValueError: other machines would reach the page, and nobody said that they may.
    """
    from urm_hf.serving.access import is_loopback

    if not no_auth and not is_loopback(host):
        raise ValueError(
            f"--host {host!r} is reached from other machines, and the page asks nobody for a password: say --no-auth "
            "if everybody there may use it, or leave --host out and reach the page through `ssh -L`."
        )


def read_familiar(scorer: "RewardScorer", file: str | None) -> "FamiliarSet | None":
    """
    Scores the familiar conversations of a file.

    Raises:
        ValueError: a row cannot be read, or they are too few.
    """
    if file is None:
        return None
    from urm_hf.app.familiar import MOST, build_familiar_set
    from urm_hf.app.inputs import list_conversations, read_rows

    conversations = []
    for number, _, conversation in list_conversations(read_rows(file, MOST)):
        if isinstance(conversation, str):
            raise ValueError(f"--familiar: {os.path.basename(file)}, row {number}: {conversation}")
        conversations.append(conversation)
    try:
        return build_familiar_set(scorer, conversations)
    except ValueError as error:
        raise ValueError(f"--familiar: {error}") from error
