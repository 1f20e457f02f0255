"""`urm push`: a complete model or ensemble to the Hub, in one commit, looked at afterwards. Private by default."""

import argparse
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm push", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of a URM, of a LoRA adapter of one, or of an ensemble")
    parser.add_argument("repo_id", help="org/name; created if it does not exist")
    parser.add_argument("--public", action="store_true", help="visible to everybody")
    parser.add_argument("--revision", help="branch to push to, created if it does not exist (default: main)")
    parser.add_argument("--commit-message")
    parser.add_argument("--tag", help="tag for the commit, such as v1")
    parser.add_argument("--license", help="for the card, such as apache-2.0; the base model's licence may demand one")
    parser.add_argument("--dataset", nargs="+", help="Hub datasets that it was trained on, for the card")
    parser.add_argument(
        "--base-model", help="Hub model that it was trained from, for the card (default: the config's)"
    )
    parser.add_argument(
        "--results", type=Path, help="measured results for the card (default: results.json, ... in it)"
    )
    parser.add_argument(
        "--overwrite-card", "--new-card", action="store_true", help="replace a README.md that was edited by hand"
    )
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="for the reference scores"
    )
    parser.add_argument("--dry-run", action="store_true", help="write card and scores, check all, upload nothing")
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
        print(f"the card: {args.folder / 'README.md'}")
        return 0
    seen = "private" if result.private else "public"
    print(f"{len(result.files)} files are on the Hub ({seen}): {result.commit_info.repo_url}")
    print(f"commit {result.commit}" + (f", tag {args.tag}" if args.tag else ""))
    print(f"load it: {result.load_line}")
    return 0
