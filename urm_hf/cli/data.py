"""
`urm data`: what is in a file of rows, before anything is trained or scored on it.
"""

import argparse

from urm_hf.cli.model_arguments import add_dataset_place, check_positive
from urm_hf.cli.parser import Parser

EPILOG = """
Begin with it: it says which format the rows have, which columns are read and which are not, how the first conversation
reaches the model, what is too long, how ratings are spread, and what looks wrong. Nothing is written or changed.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm data", description=__doc__, epilog=EPILOG)
    parser.add_argument("data", help="A file (.jsonl, .jsonl.gz, .json, .parquet, .csv) or Hub dataset.")
    add_dataset_place(parser)
    parser.add_argument(
        "--model", help="A repository or folder: lengths are in its tokens, and its template writes conversations."
    )
    parser.add_argument("--revision", help="The commit, branch or tag of the model.")
    parser.add_argument("--trust-remote-code", action="store_true", help="Run code that a tokenizer brings.")
    parser.add_argument(
        "--max-length", type=int, help="The longest conversation in tokens. The default is the model's own limit."
    )
    parser.add_argument(
        "--head", type=int, default=1, metavar="N", help="How many conversations to show. The default is 1."
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object for programs.")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "max_length")
    if args.head < 0:
        raise ValueError(f"--head must be 0 or more, got {args.head}.")
    if args.max_length is not None and args.model is None:
        raise ValueError("--max-length counts tokens: name the --model whose tokens they are.")
    from urm_hf.data.formats.reading import format_named
    from urm_hf.data.outputs import json_text
    from urm_hf.data.source import Source
    from urm_hf.data.survey.survey import Surveyor
    from urm_hf.data.survey.text import print_survey, to_json

    if args.format is not None:
        format_named(args.format)
    tokenizer = None
    if args.model is not None:
        from transformers import AutoTokenizer

        from urm_hf.modeling.hub_place_urm import HubPlace

        # asked first, as it tells in a line what cannot be found
        HubPlace(revision=args.revision).find_file(args.model, "tokenizer_config.json")
        options = {"revision": args.revision, "trust_remote_code": args.trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(args.model, **options)
    source = Source(args.data, args.split, args.data_config, args.data_revision)
    limit = args.max_length
    if limit is None and args.model is not None:
        limit = _read_limit(args)
    surveyor = Surveyor(tokenizer, limit, args.format, args.ignore_columns, args.head)
    for item in source.items():  # one at a time: a survey takes no more memory for a large file
        try:
            row = source.row(item)
        except ValueError as error:
            surveyor.skip(str(error))
            continue
        surveyor.add(row)
    found = surveyor.finish()
    if args.json:
        # what terminals must not get is escaped as JSON escapes it
        print(json_text(to_json(found, args.data), indent=2, ensure_ascii=True))
    else:
        print_survey(found, args.data, tokenizer)
    if not found.kinds:
        raise ValueError(f"{args.data}: none of its {found.rows} rows can be read, as told above.")
    return 0


def _read_limit(args: argparse.Namespace) -> int | None:
    """Tokens for which the model has positions; None where it does not say."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(args.model, revision=args.revision, trust_remote_code=args.trust_remote_code)
    # a model of several modalities has its positions in the text part
    positions = getattr(config, "max_position_embeddings", None)
    return positions or getattr(config.get_text_config(), "max_position_embeddings", None)
