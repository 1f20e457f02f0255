"""`urm demo`: train an ensemble of three on built-in conversations; a table, plots and checkpoints come out."""

import os
import warnings
from pathlib import Path

from urm_hf.cli.parser import Parser


def build_parser() -> Parser:
    parser = Parser(prog="urm demo", description=__doc__, aliases={"--base-model": "--base"})
    parser.add_argument(
        "--base",
        help="The causal LM to build on: a folder or Hub repository. The default is SmolLM2-135M, if installed.",
    )
    parser.add_argument("--out", type=Path, default=Path("urm-demo"), help="The folder for checkpoints and plots.")
    parser.add_argument("--seed", type=int, default=0, help="The seed of all draws. The default is 0.")
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    # the libraries' bars for loading and saving weights say nothing here; our own bars stay
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    from urm_hf.data.outputs import check_writable
    from urm_hf.demo.report import plot_report, print_report
    from urm_hf.demo.run import run

    check_writable(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    result = run(args.out, args.base, args.seed)
    try:
        plots = plot_report(result, args.out)
    except ImportError:
        print("No plots: `pip install urm-hf[report]` brings matplotlib.")
        plots = []
    print_report(result, plots)
    return 0
