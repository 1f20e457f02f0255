"""Options that the commands which score share: how models are loaded, and what they are called."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urm_hf.evaluation.model_scores import Loading

LIMITS = ("max_length", "truncation", "max_tokens_per_batch", "compile")
ENSEMBLE = ("strategy", "aggregation")


def add_judged_models(parser: argparse.ArgumentParser):
    """Several models that are compared, and what they are called."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="repository, folder, or file that `urm score` wrote; several joined by commas make an ensemble",
    )
    parser.add_argument("--names", nargs="+", help="of the models, for tables (default: the ends of their paths)")


def add_statistics_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    statistics = parser.add_argument_group("statistics")
    statistics.add_argument("--seed", type=int, default=0)
    statistics.add_argument("--bootstrap-samples", type=int, default=1000, help="for intervals (default: 1000)")
    return statistics


def check_positive(args: argparse.Namespace, *options: str):
    """Of options that were given."""
    for option in options:
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be positive, got {value}.")


def check_distinct(names: list[str], option: str, of: list[str], what: str):
    if len(names) != len(of) or len(set(names)) < len(names):
        raise ValueError(f"{option} must be {len(of)} different names, one for each {what}, got {names}.")


def add_model_arguments(parser: argparse.ArgumentParser):
    group = parser.add_argument_group("model")
    group.add_argument("--max-length", type=int, help="longest conversation in tokens (default: the model's limit)")
    group.add_argument("--truncation", default="error", choices=["error", "left", "right"])
    group.add_argument("--max-tokens-per-batch", type=int, help="default: 8192, on a CPU 4096; less if memory ends")
    group.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16", "auto"],
        help="of the backbone (default: float32)",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    group.add_argument("--compile", action="store_true", help="torch.compile: a minute's wait, then faster")
    group.add_argument("--revision", nargs="+", help="commit, branch or tag: one for each model")
    group.add_argument("--trust-remote-code", action="store_true", help="run code that a checkpoint brings")
    group.add_argument(
        "--strategy", choices=["resident", "sequential", "shared"], help="how an ensemble's members are held in memory"
    )
    group.add_argument(
        "--aggregation", choices=["mean", "min", "mean_minus_k_std"], help="what an ensemble's rewards become (mean)"
    )


def limits_of(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in LIMITS}


def model_kwargs_of(args: argparse.Namespace) -> dict:
    return {"dtype": args.dtype, "trust_remote_code": args.trust_remote_code}


def ensemble_of(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in ENSEMBLE if getattr(args, name)}


def loading_of(args: argparse.Namespace) -> "Loading":
    from urm_hf.evaluation.model_scores import Loading

    return Loading(model_kwargs_of(args), ensemble_of(args), limits_of(args), args.device)


def revisions_of(args: argparse.Namespace) -> list[str | None]:
    """One for each of `args.models`."""
    revisions = args.revision or [None] * len(args.models)
    if len(revisions) != len(args.models):
        raise ValueError(f"--revision needs one entry for each of the {len(args.models)} models, got {args.revision}.")
    return revisions


def short_names(sources: list[str]) -> list[str]:
    """
    A name for each model: the end of its path, as much of it as tells it from the others; of an ensemble its members'.
    """
    from urm_hf.evaluation.model_scores import is_score_file

    split = [[source] if is_score_file(source) else source.split(",") for source in sources]
    names = ["+".join(_ending(part, 1) for part in parts) for parts in split]
    depth = 1
    while len(set(names)) < len(names) and depth < 8:
        depth += 1
        twice = {name for name in names if names.count(name) > 1}
        names = [
            "+".join(_ending(part, depth) for part in parts) if name in twice else name
            for name, parts in zip(names, split, strict=True)
        ]
    if len(set(names)) < len(names):
        raise ValueError(f"a model is named twice: {', '.join(sources)}.")
    return names


def _ending(source: str, parts: int) -> str:
    """The last parts of a path or repository id, without a file's ending, fit for a file's name."""
    path = Path(os.path.abspath(source)) if os.path.exists(source) else Path(source)
    kept = [part for part in path.parts if part != path.anchor][-parts:]
    if path.is_file():
        kept[-1] = kept[-1].split(".")[0]
    return "-".join(kept)
