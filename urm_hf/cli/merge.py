"""`urm merge`: the weighted mean of URMs in weight space, as one model; and how far apart they were."""

from itertools import combinations

from urm_hf.cli.parser import Parser

FAR = 0.7  # half of what unrelated weights have


def build_parser() -> Parser:
    parser = Parser(prog="urm merge", description=__doc__)
    parser.add_argument("models", nargs="+", help="Two or more URMs: repositories or folders.")
    parser.add_argument("--out", required=True, help="The folder to write, new or empty.")
    parser.add_argument(
        "--weights", nargs="+", type=float, help="A weight for each model, summing to 1. The default is equal ones."
    )
    parser.add_argument(
        "--log-std",
        choices=["average", "first"],
        help="Average the log standard deviations, or keep the first model's. Needed unless the heads were trained by "
        "regression or deterministic.",
    )
    parser.add_argument(
        "--gate",
        choices=["average", "first"],
        default="average",
        help="Average the gates (the default), or keep the first model's.",
    )
    parser.add_argument("--revision", nargs="+", help="The commit, branch or tag: one for each model, - for a folder.")
    parser.add_argument("--max-shard-size", default="5GB", help="The largest file to write. The default is 5GB.")
    parser.add_argument("--local-files-only", action="store_true", help="Download nothing.")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    from urm_hf.checkpoints.merging import merge_checkpoints

    result = merge_checkpoints(
        args.models,
        args.out,
        weights=args.weights,
        revisions=args.revision and [None if revision == "-" else revision for revision in args.revision],
        log_std=args.log_std,
        gate=args.gate,
        max_shard_size=args.max_shard_size,
        local_files_only=args.local_files_only,
        progress=True,
    )
    print(f"{args.out}: {len(args.models)} models merged, {result.parameters:,} parameters")
    for name, weight, revision in zip(args.models, result.weights, result.revisions, strict=True):
        print(f"  {weight:.4g} x {name}{f' at {revision}' if revision else ''}")
    print("log standard deviations:", "averaged" if result.log_std == "average" else f"those of {args.models[0]}")
    gate = result.differences.get("gate")
    if gate:
        print("gate:", "averaged" if result.gate == "average" else f"that of {args.models[0]}")
    print("norm of the difference / norm of the weights (0: equal, 1.41: unrelated):")
    for i, j in combinations(range(len(args.models)), 2):
        parts = ", ".join(f"{part} {matrix[i][j]:.3g}" for part, matrix in result.differences.items())
        print(f"  {args.models[i]} - {args.models[j]}: {parts}")
    if gate and result.gate == "average" and max(map(max, gate)) > FAR:
        print("The gates are far apart, and a mean of unlike networks may weigh as none of them did: train the merged")
        print(f"model's gate with `urm train gating --model_name_or_path {args.out}`, or keep one: `--gate first`.")
    return 0
