"""
`urm data`: what is in a file of rows, before anything is trained or scored on it.
"""

import argparse
import json

from urm_hf.cli.model_arguments import check_positive

EPILOG = """
Begin with it: it says which format the rows have, which columns are read and which are not, how the first conversation
reaches the model, what is too long, how ratings are spread, and what looks wrong. Nothing is written or changed.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm data", description=__doc__, epilog=EPILOG)
    parser.add_argument("data", help="file (.jsonl, .jsonl.gz, .json, .parquet, .csv) or Hub dataset")
    parser.add_argument("--split", help="split of a Hub dataset, or value in a file's column `split` (default: all)")
    parser.add_argument("--data-config", help="configuration of a Hub dataset")
    parser.add_argument("--data-revision", help="commit, branch or tag of a Hub dataset")
    parser.add_argument("--format", help="of the rows, by name (docs/data.md); default: what their columns tell")
    parser.add_argument("--ignore-columns", nargs="+", default=[], help="columns that are not looked at")
    parser.add_argument("--model", help="repository or folder: lengths are in its tokens, its template writes")
    parser.add_argument("--revision", help="commit, branch or tag of the model")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that a tokenizer brings")
    parser.add_argument(
        "--max-length", type=int, help="longest conversation in tokens (default: the model's positions)"
    )
    parser.add_argument("--head", type=int, default=1, metavar="N", help="conversations to show (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "max_length")
    if args.head < 0:
        raise ValueError(f"--head must be 0 or more, got {args.head}.")
    if args.max_length is not None and args.model is None:
        raise ValueError("--max-length counts tokens: name the --model whose tokens they are.")
    from urm_hf.data.formats.reading import format_named
    from urm_hf.data.source import Source
    from urm_hf.data.survey.survey import Surveyor
    from urm_hf.data.survey.text import print_survey, to_json

    if args.format is not None:
        format_named(args.format)
    tokenizer = None
    if args.model is not None:
        from transformers import AutoTokenizer

        options = {"revision": args.revision, "trust_remote_code": args.trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(args.model, **options)
    source = Source(args.data, args.split, args.data_config, args.data_revision)
    limit = args.max_length if args.max_length is not None or args.model is None else _limit_of(args)
    surveyor = Surveyor(tokenizer, limit, args.format, args.ignore_columns, args.head)
    for item in source.items():
        try:
            row = source.row(item)
        except ValueError as error:
            surveyor.skip(str(error))
            continue
        surveyor.add(row)
    if args.json:
        print(json.dumps(to_json(surveyor.found, args.data), indent=2, ensure_ascii=False))
    else:
        print_survey(surveyor.found, args.data, tokenizer)
    return 0


def _limit_of(args: argparse.Namespace) -> int | None:
    """Tokens for which the model has positions; None where it does not say."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(args.model, revision=args.revision, trust_remote_code=args.trust_remote_code)
    positions = getattr(config, "max_position_embeddings", None)
    return positions or getattr(config.get_text_config(), "max_position_embeddings", None)
