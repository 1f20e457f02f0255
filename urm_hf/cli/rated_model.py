"""What `urm posterior` and `urm calibrate` share: a trained URM, rated rows, and a new folder for the model."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urm_hf.cli.model_arguments import add_data_arguments, check_positive
from urm_hf.cli.parser import Parser
from urm_hf.cli.skipped_rows import check_skipped_file, describe_skipped, write_skipped

if TYPE_CHECKING:  # `--help` answers at once
    from datasets import Dataset

    from urm_hf.modeling import URMForRewardModeling
    from urm_hf.trainers.rated_states import RatedStates


def add_rated_model(parser: Parser):
    """The model, the rows and where to write."""
    parser.add_argument("model", help="A trained URM, or an adapter of one: a repository or folder.")
    add_data_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="The folder to write, new or empty.")
    parser.add_argument("--revision", help="The commit, branch or tag of a repository.")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["float32", "bfloat16", "float16", "auto"],
        help="The precision of the model. The default, auto, is that of its file.",
    )
    parser.add_argument("--max-length", type=int, help="The most tokens of a conversation, as in training.")
    parser.add_argument(
        "--truncation",
        default="error",
        choices=["error", "left", "right"],
        help="What happens to a longer one: an error (the default), or its start or end is cut off.",
    )
    parser.add_argument(
        "--skip-unrated",
        action="store_true",
        help="Leave out rows without any rating, and count them, as in training. By default they are an error.",
    )
    parser.add_argument(
        "--on-error",
        default="raise",
        choices=["raise", "skip"],
        help="What happens to a row that cannot be used: an error (the default), or it is skipped, counted and "
        "written to OUT.skipped.jsonl.",
    )
    parser.add_argument(
        "--attribute-scales",
        type=read_object,
        metavar="JSON",
        help="The scales of ratings, as in training: '{\"helpfulness\": [0, 4]}'. Ratings outside of them are errors, "
        "and intervals end where they do. Other attributes keep what the model knows.",
    )
    parser.add_argument(
        "--levels",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="The shares of ratings that intervals are to hold. The default is 0.5 0.68 0.8 0.9 0.95.",
    )


def read_object(text: str) -> Any:
    """A value in JSON, of which an error says what a shell may have made of it."""
    try:
        return json.loads(text)
    except ValueError as error:
        example = """'{"helpfulness": [0, 4]}'"""
        raise argparse.ArgumentTypeError(f"must be JSON in single quotes, such as {example}, got {text}") from error


def check_rated_model(args: argparse.Namespace):
    """All that can be told before anything is loaded."""
    from urm_hf.data.outputs import check_writable

    check_positive(args, "max_length")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise FileExistsError(f"--out {args.out} is not empty: name a new folder.")
    check_writable(args.out.resolve().parent)
    if args.on_error == "skip":
        check_skipped_file(args.out)
    for level in args.levels or ():
        if not 0 < level < 1:
            raise ValueError(f"--levels must lie between 0 and 1, got {level:g}.")


def load_rated_model(args: argparse.Namespace) -> "tuple[URMForRewardModeling, Any]":
    """The model, with an adapter merged into its base, and its tokenizer."""
    from urm_hf.checkpoints.adapters import is_adapter, load_adapter
    from urm_hf.modeling import URMConfig, URMEnsembleConfig, URMForRewardModeling
    from urm_hf.modeling.backbone_urm import read_config
    from urm_hf.modeling.configuration_urm import check_scales
    from urm_hf.modeling.hub_place_urm import HubPlace
    from urm_hf.modeling.tokenizer_urm import load_tokenizer

    kind = read_config(args.model, HubPlace(revision=args.revision)).get("model_type")
    if kind == URMEnsembleConfig.model_type:
        raise ValueError(f"{args.model} is an ensemble, and a posterior is of one model: name one of its members.")
    if kind not in (None, URMConfig.model_type):
        raise ValueError(
            f"{args.model} is a {kind} model and no URM: train attributes on it first (`urm train attributes "
            f"--model_name_or_path {args.model} --dataset_name RATINGS --output_dir URM`)."
        )
    tokenizer = load_tokenizer(args.model, revision=args.revision)
    if is_adapter(args.model, revision=args.revision):
        model = load_adapter(args.model, args.revision, dtype=args.dtype).eval()
    else:
        model = URMForRewardModeling.from_pretrained(args.model, revision=args.revision, dtype=args.dtype).eval()
    if args.attribute_scales is not None:
        declared = check_scales(args.attribute_scales, model.config.attributes) or {}
        model.config.attribute_scales = {**(model.config.attribute_scales or {}), **declared}
    return model, tokenizer


def read_rated_states(
    args: argparse.Namespace, model: "URMForRewardModeling", tokenizer: Any, use: str, *, new: bool = False
) -> "tuple[RatedStates, list[dict[str, Any]]]":
    """
    The hidden states of the rows of --data, and the rows that are left out, for [`save_rated_model`].

    Args:
        args (`argparse.Namespace`): as of [`add_rated_model`]. model, tokenizer: as of [`load_rated_model`].
        use (`str`): what they are read for, "posterior" or "intervals"; the model's config records it.
        new (`bool`, *optional*, defaults to `False`): whether the model must not have been trained on them; if it was,
            a note says so.
    """
    import torch

    from urm_hf.data.seen import describe_marked, read_seen, summarize_seen
    from urm_hf.trainers import URMAttributeConfig
    from urm_hf.trainers.encoding import EncodingReport
    from urm_hf.trainers.rated_states import read_states

    rows, unreadable = _load_rated_rows(args, list(model.config.attributes))
    report = EncodingReport(unreadable)
    limit = {} if args.max_length is None else {"max_length": args.max_length}
    settings = URMAttributeConfig(
        str(args.out),
        truncation=args.truncation,
        on_error=args.on_error,
        report_to="none",
        bf16=False,
        **limit,
    )
    with torch.inference_mode():
        states = read_states(model, tokenizer, rows, settings, report=report)
    training = model.config.training if isinstance(model.config.training, dict) else {}
    former = {name: of for name, of in training.items() if name != use}
    told = describe_marked(former, report.marks) if new else None
    if told is not None:
        print(f"note: {args.model} was {told}.", file=sys.stderr)
    fitted = {"posterior": former.get("posterior")}
    if not new and read_seen(fitted) and describe_marked(fitted, report.marks) is None:
        told = f"the posterior of {args.model} was fitted on none of these rows, as far as its config says"
        print(f"note: {told}. Rows that are new to it take `--method split`.", file=sys.stderr)
    model.config.training = {**training, use: summarize_seen(report.marks)}
    return states, report.skipped


def _load_rated_rows(args: argparse.Namespace, attributes: list[str]) -> "tuple[Dataset, list[dict[str, Any]]]":
    """The rows of --data, and what of it holds none, if that is to be skipped."""
    from urm_hf.data.errors import RowError
    from urm_hf.trainers.data_arguments import DataArguments
    from urm_hf.trainers.splits import load_split

    data = DataArguments(
        dataset_name=args.data,
        train_split=args.split or "train",
        dataset_config=args.data_config,
        dataset_revision=args.data_revision,
        format=args.format,
        ignore_columns=args.ignore_columns or None,
        skip_unrated=args.skip_unrated,
    )
    unreadable: list[RowError] | None = [] if args.on_error == "skip" else None
    rows = load_split(data, data.dataset_name, data.train_split, attributes, unreadable)
    return rows, [{"row": error.row, "reason": str(error)} for error in unreadable or ()]


def save_rated_model(args: argparse.Namespace, states: "RatedStates", tokenizer: Any, skipped: "list[dict[str, Any]]"):
    """
    The folder of --out, which appears whole; of an adapter, an adapter with the new head. Rows that were left out are
    told, and written beside it.
    """
    from urm_hf.checkpoints.adapters import is_adapter, save_adapter_with_head
    from urm_hf.checkpoints.files import appears_whole, copy_licences
    from urm_hf.modeling.tokenizer_urm import save_tokenizer

    with appears_whole(args.out) as folder:
        if is_adapter(args.model, revision=args.revision):
            save_adapter_with_head(args.model, states.model, folder, args.revision)
        else:
            states.model.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        copy_licences(args.model, folder, args.revision)
        write_skipped(args.out, skipped)  # before the folder has its name: where it is, this is
    if skipped:
        print(describe_skipped(args.out, skipped, len(states) + len(skipped)), file=sys.stderr)
