"""`urm demo`: train an ensemble of three on built-in conversations; a table, plots and checkpoints come out."""

import argparse
import os
import warnings
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="urm demo", description=__doc__)
    parser.add_argument(
        "--base", help="causal LM to build on: folder or Hub repository (default: SmolLM2-135M, if installed)"
    )
    parser.add_argument("--out", type=Path, default=Path("urm-demo"), help="folder for checkpoints and plots")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    # the libraries' bars for loading and saving weights say nothing here; our own bars stay
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    from urm_hf.demo.report import plot_report, print_report
    from urm_hf.demo.run import run

    args.out.mkdir(parents=True, exist_ok=True)
    result = run(args.out, args.base, args.seed)
    try:
        plots = plot_report(result, args.out)
    except ImportError:
        print("No plots: `pip install urm-hf[report]` brings matplotlib.")
        plots = []
    print_report(result, plots)
    return 0
