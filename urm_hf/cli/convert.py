"""`urm convert published IN OUT`, `urm convert sglang IN OUT`: the published layout of URMs into ours, and back."""

import argparse
import math

from urm_hf.cli.parser import Parser


def build_parser() -> Parser:
    parser = Parser(prog="urm convert", description="Rewrite a URM in another layout, exactly.")
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="{published,sglang}")
    common = Parser(add_help=False)
    common.add_argument("source", metavar="IN", help="A folder or Hub repository with safetensors.")
    common.add_argument("out", metavar="OUT", help="The folder to write, new or empty.")
    common.add_argument("--revision", help="The commit, branch or tag of the repository.")
    common.add_argument("--max-shard-size", default="5GB", help="The largest file to write. The default is 5GB.")
    common.add_argument("--local-files-only", action="store_true", help="Download nothing.")
    text = (
        "A URM of the published layout (LlamaForSequenceClassificationWithNormal_Weights) becomes one of this package."
    )
    published = layouts.add_parser("published", parents=[common], help=text, description=text)
    published.add_argument(
        "--attributes", nargs="+", metavar="NAME", help="Their names. The default is HelpSteer2's five."
    )
    published.add_argument(
        "--reward-weights",
        type=read_numbers,
        metavar="W,W,...",
        help="Of a URM without a gate: the weights of its attributes, joined by commas.",
    )
    text = "A URM of this package becomes one of the published layout, which SGLang serves."
    sglang = layouts.add_parser("sglang", parents=[common], help=text, description=text)
    sglang.add_argument(
        "--pad-gate", action="store_true", help="Write a narrower gate, or fixed weights, as a full gate with zeros."
    )
    return parser


def read_numbers(text: str) -> list[float]:
    """Numbers joined by commas: a list of words would take one that begins with a minus for an option."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"numbers joined by commas, such as 0.3,0.74,-0.33; got {text!r}")
    return numbers


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    from urm_hf.checkpoints.published import convert_published, convert_sglang

    options = {name: getattr(args, name) for name in ("revision", "max_shard_size", "local_files_only")}
    if args.layout == "published":
        options |= {"attributes": args.attributes, "reward_weights": args.reward_weights}
        result = convert_published(args.source, args.out, progress=True, **options)
    else:
        result = convert_sglang(args.source, args.out, progress=True, pad_gate=args.pad_gate, **options)
    dtypes = ", ".join(f"{part} {str(dtype).removeprefix('torch.')}" for part, dtype in result.dtypes.items())
    print(f"{args.out}: {result.source}{f' at {result.revision}' if result.revision else ''}")
    print(f"  {result.parameters:,} parameters: {dtypes}")
    print(f"  attributes: {', '.join(result.attributes)}")
    if args.layout == "published" and args.reward_weights:
        print(f"  weights: {', '.join(f'{weight:g}' for weight in args.reward_weights)}")
    for note in result.notes:
        print(f"  note: {note}")
    if args.layout == "published":
        print(f"Load it with `RewardScorer({args.out!r})`; or `urm score {args.out} --data ROWS --out SCORED`.")
    else:
        print(f"Serve it with `python -m sglang.launch_server --model-path {args.out} --is-embedding`.")
    return 0
