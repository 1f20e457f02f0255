"""`urm verify`: is a model complete, is its code ours, does it load, does it score as it did when it was pushed?"""

from urm_hf.cli.parser import Parser


def build_parser() -> Parser:
    parser = Parser(
        prog="urm verify",
        description=__doc__,
        epilog="Exit code: 0 if all is well, 1 if something differs, 2 on errors.",
    )
    parser.add_argument("model", help="A model or an ensemble: a repository or folder.")
    parser.add_argument("--revision", help="The commit, branch or tag of a repository.")
    parser.add_argument(
        "--atol",
        type=float,
        help="The largest difference of scores, for rewards of size 1. The default is 1e-4 in float32.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.atol is not None and not args.atol >= 0:
        raise ValueError(f"--atol must not be negative, got {args.atol}.")
    from urm_hf.hub.verify import verify

    failed = 0
    for check in verify(args.model, args.revision, atol=args.atol):
        print(check, flush=True)
        failed += check.ok is False
    print(f"{args.model}: " + (f"{failed} of the checks failed" if failed else "as it should be"))
    return 1 if failed else 0
