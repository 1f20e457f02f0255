"""
`urm posterior`: teach a trained model what it does not know, from the rows that it was trained on.

Fits the posterior of a Bayesian linear regression of the ratings on the model's hidden states, in closed form, and
writes the model with it. Its scores then have `epistemic_variance`, low where a conversation resembles what was rated
and high where it does not, and `intervals` that hold a rating in a given share of cases.
"""

from urm_hf.cli.model_arguments import check_positive
from urm_hf.cli.parser import Parser
from urm_hf.cli.rated_model import (
    add_rated_model,
    check_rated_model,
    load_rated_model,
    read_rated_states,
    save_rated_model,
)


def build_parser() -> Parser:
    parser = Parser(prog="urm posterior", description=__doc__)
    add_rated_model(parser)
    parser.add_argument(
        "--rank", type=int, help="The directions to keep. The default is all up to a hidden size of 1024, else 128."
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Print what it is worth: how well it predicts ratings of prompts that it was not fitted on, and whether "
        "it tells texts of shuffled tokens from yours.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_positive(args, "rank")
    check_rated_model(args)
    model, tokenizer = load_rated_model(args)
    states, skipped = read_rated_states(args, model, tokenizer, "posterior")
    from urm_hf.trainers.posterior_checks import check_posterior
    from urm_hf.trainers.posteriors import fit_head_posterior, fit_what_can_be

    if args.levels:
        posterior = fit_head_posterior(states, args.rank, args.levels)
    else:
        posterior = fit_what_can_be(states, args.rank)
    save_rated_model(args, states, tokenizer, skipped)
    print(f"{args.out}: {args.model} with a posterior of {len(states):,} rows, {posterior.rank} directions")
    width = max(map(len, model.config.attributes))
    numbers = zip(model.config.attributes, posterior.noise, posterior.intercept, posterior.share, strict=True)
    for name, noise, intercept, share in numbers:
        told = f"noise of one rating {noise**0.5:.3g}, of the mean rating {intercept**0.5:.2g}"
        print(f"  {name:<{width}}  {told}; each rating counts for {share:.2g} of one")
    print(
        "Ratings of one text, or of answers to one prompt, have much in common, and tell less than as many unrelated "
        "ones: each counts for the share of a rating with which those of other prompts are predicted best."
    )
    if args.check:
        print(check_posterior(states, tokenizer, args.rank))
    return 0
