"""All rows that the members of an ensemble will read, looked at before the first of them trains."""

import copy
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PretrainedConfig

from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig
from urm_hf.modeling.configuration_urm import check_scales
from urm_hf.trainers.attributes import infer_attributes
from urm_hf.trainers.configs import URMAttributeConfig, URMGatingConfig
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.encoding import encode_dataset, encoder_for, longest_for
from urm_hf.trainers.loading import load_tokenizer_of, pin_source, read_model_config
from urm_hf.trainers.pairs import encode_pairs
from urm_hf.trainers.rated_rows import plan_rated_rows, read_rated_rows
from urm_hf.trainers.splits import load_splits_of_seeds


def check_stage_data(data: DataArguments, args: Any, base: str, base_args: Any, seeds: Sequence[int]):
    """
    Reads and encodes the rows of a stage as its trainer will: a file of pairs that cannot be read, or one row of it,
    is told now and not after the stage before has trained.

    Args:
        data (`DataArguments`): which rows.
        args (`URMAttributeConfig` or `URMGatingConfig`): settings of the stage.
        base (`str`): the model that the first stage starts from, whose tokenizer and limits all members have.
        base_args (`URMAttributeConfig`): settings of that stage, by which the model is loaded.
        seeds (`list[int]`): of the members, each of which may draw other rows.

    Raises:
        ValueError: data that cannot be read, or rows that cannot be used.
    """
    if not isinstance(args, (URMAttributeConfig, URMGatingConfig)) or getattr(args, "reward_weights", None):
        return  # nothing is read
    args, base_args = copy.deepcopy(args), copy.deepcopy(base_args)
    of_pairs = isinstance(args, URMGatingConfig)
    rated = None if of_pairs else list(args.attributes or HELPSTEER2_ATTRIBUTES)
    splits = load_splits_of_seeds(data, seeds, rated, args.output_dir if args.on_error == "skip" else None)
    config = read_model_config(base, base_args)
    tokenizer = load_tokenizer_of(pin_source(base, base_args), base_args)
    if config is None or tokenizer is None:  # an adapter of no URM: what is missing is told where it is loaded
        return
    args.max_length = longest_for(config, args.max_length)
    for name, rows in zip(("train", "eval"), splits, strict=True):
        if rows is None:
            continue
        if of_pairs:
            encode_pairs(rows, encoder_for(config, tokenizer, args), args, name)
        else:
            _encode_rated(rows, splits[0], config, tokenizer, args, name)


def _encode_rated(rows: Dataset, train: Dataset, config: PretrainedConfig, tokenizer: Any, args: Any, name: str):
    """Raises what the trainer would of these rows; `train` tells which columns are ratings where nobody names them."""
    attributes, scales = args.attributes, args.attribute_scales
    if isinstance(config, URMConfig):
        attributes, scales = config.attributes, scales or config.attribute_scales
    attributes = list(attributes or infer_attributes(train, HELPSTEER2_ATTRIBUTES).names)
    scales = check_scales(scales, attributes)
    rated = read_rated_rows(rows, attributes, scales, name)
    rated.read_usable()
    encode_dataset(
        rows,
        encoder_for(config, tokenizer, args),
        plan_rated_rows(attributes, scales, rated),
        name=name,
        on_error=args.on_error,
        folder=args.output_dir,
        num_proc=args.dataset_num_proc,
    )
