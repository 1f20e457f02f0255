"""
`urm posterior`: teach a trained model what it does not know, from the rows that it was trained on.

Fits the posterior of a Bayesian linear regression of the ratings on the model's hidden states, in closed form, and
writes the model with it. Its scores then have `epistemic_variance`: low where a conversation resembles what was rated,
high where it does not.
"""

from pathlib import Path

from urm_hf.cli.model_arguments import add_data_arguments, check_positive
from urm_hf.cli.parser import Parser


def build_parser() -> Parser:
    parser = Parser(prog="urm posterior", description=__doc__)
    parser.add_argument("model", help="A trained URM: a repository or folder.")
    add_data_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="The folder to write, new or empty.")
    parser.add_argument(
        "--rank", type=int, help="The directions to keep. The default is all up to a hidden size of 1024, else 128."
    )
    parser.add_argument("--revision", help="The commit, branch or tag of a repository.")
    parser.add_argument("--dtype", default="auto", help="The precision of the model. The default is that of its file.")
    parser.add_argument("--max-length", type=int, help="The most tokens of a conversation, as in training.")
    parser.add_argument(
        "--truncation",
        default="error",
        choices=["error", "left", "right"],
        help="What happens to a longer one: an error (the default), or its start or end is cut off.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "rank", "max_length")
    if args.out.exists() and any(args.out.iterdir()):
        raise FileExistsError(f"--out {args.out} is not empty: name a new folder.")
    import numpy as np
    import torch

    from urm_hf.checkpoints.files import appears_whole, check_new_folder
    from urm_hf.modeling import URMForRewardModeling
    from urm_hf.modeling.tokenizer_urm import load_tokenizer, save_tokenizer
    from urm_hf.trainers import URMAttributeConfig
    from urm_hf.trainers.data_arguments import DataArguments
    from urm_hf.trainers.posteriors import fit_on_rows
    from urm_hf.trainers.splits import load_splits

    check_new_folder(args.out)
    model = URMForRewardModeling.from_pretrained(args.model, revision=args.revision, dtype=args.dtype).eval()
    tokenizer = load_tokenizer(args.model, revision=args.revision)
    data = DataArguments(
        dataset_name=args.data,
        train_split=args.split or "train",
        dataset_config=args.data_config,
        dataset_revision=args.data_revision,
        format=args.format,
        ignore_columns=args.ignore_columns or None,
    )
    rows, _ = load_splits(data, 0, list(model.config.attributes))
    limit = {} if args.max_length is None else {"max_length": args.max_length}
    settings = URMAttributeConfig(str(args.out), truncation=args.truncation, report_to="none", bf16=False, **limit)
    with torch.inference_mode():
        posterior = fit_on_rows(model, tokenizer, rows, settings, rank=args.rank)
    with appears_whole(args.out) as folder:
        model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    print(f"{args.out}: {args.model} with a posterior of {len(rows):,} rows, {posterior.rank} directions")
    width = max(map(len, model.config.attributes))
    for name, noise, intercept in zip(model.config.attributes, posterior.noise, posterior.intercept, strict=True):
        print(
            f"  {name:<{width}}  noise of one rating {np.sqrt(noise):.3g}, of the mean rating {np.sqrt(intercept):.2g}"
        )
    return 0
