"""`urm push`: a complete model or ensemble to the Hub, in one commit, looked at afterwards. Private by default."""

from pathlib import Path

from urm_hf.cli.parser import Parser


def build_parser() -> Parser:
    former = {"--new-card": "--overwrite-card", "--base": "--base-model"}
    parser = Parser(prog="urm push", description=__doc__, aliases=former)
    parser.add_argument(
        "folder",
        type=Path,
        help="The folder of a URM, of a LoRA adapter of one, or of an ensemble, whose members are pushed with it.",
    )
    parser.add_argument("repo_id", help="The repository, org/name. It is created if it does not exist.")
    parser.add_argument("--public", action="store_true", help="Make it visible to everybody.")
    parser.add_argument("--revision", help="The branch to push to, created if it does not exist. The default is main.")
    parser.add_argument("--commit-message", help="The message of the commit.")
    parser.add_argument("--tag", help="A tag for the commit, such as v1.")
    parser.add_argument(
        "--license", help="The licence, for the card, such as apache-2.0. The base model's licence may demand one."
    )
    parser.add_argument(
        "--dataset",
        nargs="+",
        help="The Hub datasets that it was trained on, for the card. No result is named after them.",
    )
    parser.add_argument(
        "--base-model",
        help="The Hub model that it was trained from: for the card, and where heads that are saved alone find their "
        "backbone. The default is the config's.",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="Measured results for the card. The default is those of an earlier push, or results.json in the folder.",
    )
    parser.add_argument("--overwrite-card", action="store_true", help="Replace a README.md that was edited by hand.")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="The precision of the reference scores. The default is float32.",
    )
    parser.add_argument("--dry-run", action="store_true", help="Write card and scores, check all, and upload nothing.")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    from urm_hf.hub.publish import push

    result = push(
        args.folder,
        args.repo_id,
        private=not args.public,
        revision=args.revision,
        commit_message=args.commit_message,
        tag=args.tag,
        license=args.license,
        datasets=args.dataset,
        base_model=args.base_model,
        results=args.results,
        overwrite_card=args.overwrite_card,
        dtype=args.dtype,
        dry_run=args.dry_run,
    )
    for note in result.notes:
        print(f"note: {note}")
    if result.left_out:
        print(f"not uploaded: {', '.join(result.left_out)}")
    if result.removed:
        print(f"removed from the repository: {', '.join(result.removed)}")
    if result.commit_info is None:
        print(f"dry run: {len(result.files)} files would be uploaded: {', '.join(result.files)}")
        for card in result.cards:
            print(f"the card: {card}")
        if result.missing:
            raise ValueError(f"it cannot be uploaded yet: {'; '.join(result.missing)}.")
        return 0
    seen = "private" if result.private else "public"
    print(f"{len(result.files)} files are on the Hub ({seen}): {result.commit_info.repo_url}")
    print(f"commit {result.commit}" + (f", tag {args.tag}" if args.tag else ""))
    print(f"load it: {result.load_line}")
    return 0
