"""
`urm calibrate`: make a model's intervals hold as many ratings as they say.

Finds, for each attribute and level, how many standard deviations of the model's prediction hold a rating in so many
cases, and writes the model with these factors; its scores then have `intervals`. The model needs a posterior (`urm
posterior`, or training on a frozen backbone).
"""

import argparse
import sys
from typing import TYPE_CHECKING

from urm_hf.cli.parser import Parser
from urm_hf.cli.rated_model import (
    add_rated_model,
    check_rated_model,
    load_rated_model,
    read_rated_states,
    save_rated_model,
)

if TYPE_CHECKING:
    import numpy as np

    from urm_hf.trainers.rated_states import RatedStates

EPILOG = """
cross reads the rows that the model was trained on: each is predicted by a posterior of the rows of other prompts.
split reads rows that it was not trained on, which takes many prompts: what varies from prompt to prompt is not
averaged away by more ratings of few of them.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm calibrate", description=__doc__, epilog=EPILOG)
    add_rated_model(parser)
    parser.add_argument(
        "--method",
        default="cross",
        choices=["cross", "split"],
        help="What the rows are: cross for those that the model was trained on (the default), split for new ones.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    check_rated_model(args)
    model, tokenizer = load_rated_model(args)
    if not model.score.has_posterior:
        raise ValueError(
            f"{args.model} has no posterior, whose predictions intervals are built on. Fit one, which brings "
            "intervals as well: `urm posterior MODEL --data RATINGS --out DIR`."
        )
    cross = args.method == "cross"
    states, skipped = read_rated_states(args, model, tokenizer, "intervals", new=not cross)
    from urm_hf.trainers.posteriors import fit_head_intervals
    from urm_hf.uncertainty.conformal import LEVELS

    levels = sorted(set(args.levels or LEVELS))
    if len(set(states.prompts)) == 1:
        told = f"all {len(states):,} rows are of one prompt: the intervals are for other answers to it"
        print(f"note: {told}, and of other prompts nothing is known.", file=sys.stderr)
    before, factors = fit_head_intervals(states, levels, cross=cross)
    save_rated_model(args, states, tokenizer, skipped)
    print(_describe(args, states, levels, before, factors))
    return 0


def _describe(
    args: argparse.Namespace, states: "RatedStates", levels: list[float], before: "np.ndarray", factors: "np.ndarray"
) -> str:
    """What was found: the share that a Gaussian's interval held of these ratings, and the factor that replaces it."""
    from scipy.special import ndtri

    prompts = len(set(states.prompts))
    lines = [f"{args.out}: {args.model}, calibrated on {len(states):,} rows of {prompts:,} prompts ({args.method})"]
    lines += [
        "",
        "So many standard deviations an interval now reaches to each side of the prediction, to hold the share of",
        "ratings that stands above. In brackets: the share of these ratings that an interval with the Gaussian's",
        "number, in the first row, would have held.",
        "",
    ]
    lines += [f"| | {' | '.join(f'{level:.4g}' for level in levels)} |", f"|---|{'---|' * len(levels)}"]
    lines.append(f"| a Gaussian's | {' | '.join(f'{ndtri((1 + level) / 2):.2f}' for level in levels)} |")
    for k, name in enumerate(states.attributes):
        cells = [f"{factors[place, k]:.2f} ({before[place, k]:.0%})" for place in range(len(levels))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
