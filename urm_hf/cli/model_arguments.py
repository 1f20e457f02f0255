"""Options that the commands which score share: how models are loaded, and what they are called."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        help="A repository, a folder, or a file that `urm score` wrote, or to evaluate `urm judge`. Names joined by "
        "commas, A,B,C, are members of one ensemble; separate ones are compared.",
    )
    parser.add_argument(
        "--names", nargs="+", help="What the models are called in tables. The default is the ends of their paths."
    )


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool = True):
    """The rows to work on, of a file or of a dataset on the Hub."""
    parser.add_argument(
        "--data", required=required, help="The rows: a file (.jsonl, .jsonl.gz, .parquet, .csv) or a Hub dataset."
    )
    add_dataset_place(parser)


def add_dataset_place(parser: argparse.ArgumentParser):
    """Which rows of a dataset, and how they are read where their columns do not tell, or tell wrongly."""
    parser.add_argument("--split", help="The split of a Hub dataset, or the value in a file's column `split`.")
    parser.add_argument("--data-config", help="The configuration of a Hub dataset.")
    parser.add_argument("--data-revision", help="The commit, branch or tag of a Hub dataset.")
    parser.add_argument(
        "--format", help="The name of the rows' format (docs/data.md). The default is what their columns tell."
    )
    parser.add_argument(
        "--ignore-columns", nargs="+", metavar="COLUMN", default=[], help="The columns that are not looked at."
    )


def add_prompt_column(parser: argparse._ActionsContainer):
    """The column of prompts."""
    parser.add_argument("--prompt-column", help="The column of prompts. The default is what the rows' format says.")


def add_statistics_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What decides the draws, in a group to which a command may add its own."""
    statistics = parser.add_argument_group("statistics")
    statistics.add_argument("--seed", type=int, default=0, help="The seed of all draws. The default is 0.")
    add_bootstrap_samples(statistics)
    return statistics


def add_bootstrap_samples(parser: argparse._ActionsContainer):
    """How many resamples there are."""
    parser.add_argument(
        "--bootstrap-samples", type=int, default=1000, help="Resamples for intervals. The default is 1000."
    )


def check_positive(args: argparse.Namespace, *options: str):
    """
    Args:
        args (`Namespace`): what was parsed.
        options (`str`): names of numbers; those that were not given are not looked at.

    Raises:
        ValueError: one of them is below 1.
    """
    for option in options:
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be positive, got {value}.")


def check_distinct(names: list[str], option: str, of: list[str], what: str):
    """
    Args:
        names (`list[str]`): what things are called.
        option (`str`): the flag that names them.
        of (`list[str]`): the things.
        what (`str`): one of them in words.

    Raises:
        ValueError: there are not as many names as things, or two are equal.
    """
    if len(names) != len(of) or len(set(names)) < len(names):
        raise ValueError(f"{option} must be {len(of)} different names, one for each {what}, got {names}.")


def add_model_arguments(parser: argparse.ArgumentParser):
    """How models are loaded, and how much passes them at once."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--max-length", type=int, help="The longest conversation in tokens. The default is the model's own limit."
    )
    group.add_argument(
        "--truncation",
        default="error",
        choices=["error", "left", "right"],
        help="What happens to a longer one: an error (the default), or its left or right end is cut off.",
    )
    group.add_argument(
        "--max-tokens-per-batch",
        type=int,
        help="Tokens that pass the model at once. The default is 8192, on a CPU 4096; less where memory ends.",
    )
    group.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16", "auto"],
        help="The precision of the backbone. The default is float32.",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... The default is a GPU if there is one.")
    group.add_argument(
        "--compile", action="store_true", help="Compile the model with torch.compile: a minute's wait, then faster."
    )
    group.add_argument(
        "--revision", nargs="+", help="The commit, branch or tag: one for each model; of members A,B as many, R,S."
    )
    group.add_argument("--trust-remote-code", action="store_true", help="Run code that a checkpoint brings.")
    group.add_argument(
        "--strategy",
        choices=["resident", "sequential", "shared"],
        help="How an ensemble's members are held in memory: all, one at a time, or heads on one backbone.",
    )
    group.add_argument(
        "--aggregation",
        choices=["mean", "min", "mean_minus_k_std"],
        help="What the members' rewards become in an ensemble. The default is what its folder says, or mean.",
    )


def add_server_argument(parser: argparse._ActionsContainer):
    """Where the model is, for commands that otherwise load it."""
    parser.add_argument(
        "--engine",
        default="local",
        metavar="local|URL",
        help="Where the model is: here (local, the default), or behind `urm serve` at http://HOST:PORT, whose token "
        "is read from URM_SERVE_TOKEN. MODEL is then the one that it serves.",
    )


def read_server(args: argparse.Namespace, engines: tuple[str, ...] = ("local",)) -> str | None:
    """
    The URL of the server that has the model; None where it is loaded here.

    Args:
        args (`Namespace`): what was parsed.
        engines (`tuple[str, ...]`, *optional*): what else `--engine` may be.

    Raises:
        ValueError: it is neither, holds a token, or goes with options that only the server could have heeded.
    """
    from urm_hf.scoring.remote import is_url

    if args.engine in engines:
        return None
    if not is_url(args.engine):
        raise ValueError(f"--engine must be {', '.join(engines)} or a URL like http://127.0.0.1:8770.")
    if "@" in args.engine:
        raise ValueError("--engine: leave the token out of the URL, which others can see; set URM_SERVE_TOKEN.")
    parser = argparse.ArgumentParser(add_help=False)
    add_model_arguments(parser)
    given = [name for name, value in vars(parser.parse_args([])).items() if getattr(args, name) != value]
    if given:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{told}: the model was loaded by {args.engine}, as `urm serve` was told. Leave this out.")
    return args.engine


def read_limits(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of [`RewardScorer`] itself."""
    return {name: getattr(args, name) for name in LIMITS}


def read_model_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments with which a model is loaded."""
    return {"dtype": args.dtype, "trust_remote_code": args.trust_remote_code}


def read_ensemble(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of an ensemble that were given; for the others its folder speaks."""
    return {name: getattr(args, name) for name in ENSEMBLE if getattr(args, name)}


def read_loading(args: argparse.Namespace) -> "Loading":
    """All that the model's options say, for commands that load several."""
    from urm_hf.evaluation.model_scores import Loading, is_score_file

    server = read_server(args)
    asked = [model for model in args.models if not is_score_file(model)]
    if server is not None and len(asked) > 1:
        raise ValueError(f"--engine: a server has one model, but these are {len(asked)}: {', '.join(asked)}.")
    return Loading(read_model_kwargs(args), read_ensemble(args), read_limits(args), args.device, server)


def read_revisions(args: argparse.Namespace) -> list[str | None]:
    """
    One for each of `args.models`.

    Raises:
        ValueError: there are more or fewer.
    """
    revisions = args.revision or [None] * len(args.models)
    if len(revisions) != len(args.models):
        raise ValueError(f"--revision needs one entry for each of the {len(args.models)} models, got {args.revision}.")
    return revisions


def split_members(models: list[str], revisions: list[str] | None) -> tuple[list[str], list[str] | None]:
    """
    The one model of a command, or the members of the ensemble A,B,C, with a revision for each.

    Separate names are members as well, as they used to be, but other commands take them for models to compare.

    Args:
        models (`list[str]`): as they were given; a folder whose name has a comma is one model.
        revisions (`list[str]`, *optional*): as they were given, R,S for members A,B.

    Returns:
        `tuple[list[str], list[str] | None]`: the members, and a revision for each.
    """
    if len(models) > 1:
        print(f"note: write an ensemble as {','.join(models)}; separate names will be an error here.", file=sys.stderr)
        return models, revisions
    members = [models[0]] if os.path.exists(models[0]) else models[0].split(",")
    if revisions is None:
        return members, None
    return members, [revision for given in revisions for revision in given.split(",")]


def short_names(sources: list[str]) -> list[str]:
    """
    A name for each model: the end of its path, as much of it as tells it from the others; of an ensemble its members'.

    Args:
        sources (`list[str]`): repositories, folders, files of scores, or members joined by commas.

    Raises:
        ValueError: a model is named twice.
    """
    from urm_hf.evaluation.model_scores import is_score_file

    split = [[source] if is_score_file(source) else source.split(",") for source in sources]
    names = [_join_endings(parts, 1) for parts in split]
    depth = 1
    while len(set(names)) < len(names) and depth < 8:
        depth += 1
        longer = list(names)
        for place, name in enumerate(names):
            if names.count(name) > 1:  # the others keep the shortest name that tells them
                longer[place] = _join_endings(split[place], depth)
        names = longer
    if len(set(names)) < len(names):
        raise ValueError(f"a model is named twice: {', '.join(sources)}.")
    return names


def _join_endings(members: list[str], parts: int) -> str:
    return "+".join(_read_ending(member, parts) for member in members)


def _read_ending(source: str, parts: int) -> str:
    """The last parts of a path or repository id, without a file's ending, fit for a file's name."""
    path = Path(os.path.abspath(source)) if os.path.exists(source) else Path(source)
    kept = [part for part in path.parts if part != path.anchor][-parts:]
    if path.is_file():
        kept[-1] = kept[-1].split(".")[0]
    return "-".join(kept)
