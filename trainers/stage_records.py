"""How a stage was trained, in the model's config: what tells the members of an ensemble apart."""

import logging
from collections.abc import Mapping
from typing import Any

from urm_hf.data.seen import describe_other_form

logger = logging.getLogger(__name__)


def record_stage(config, stage: str, args, dataset, seen: Mapping[str, Any]):
    """
    Writes into the model's config how a stage was trained.

    Args:
        config (`URMConfig`): its `training` gets the record, beside that of another stage.
        stage (`str`): "attribute_stage" or "gating_stage".
        args (`URMTrainingConfig`): settings of the stage.
        dataset (`Dataset` or `IterableDataset`, *optional*): whose rows are counted, unless it is a stream.
        seen (`dict`): what is recorded of the conversations (`urm_hf.data.seen`); empty where they are not known.
    """
    record = {
        "seed": args.seed,
        "data_seed": args.data_seed,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "batch_size": args.per_device_train_batch_size * args.gradient_accumulation_steps,
    }
    if args.max_steps > 0:
        record["steps"] = args.max_steps
    else:
        record["epochs"] = args.num_train_epochs
    for name in ("loss_type", "freeze_backbone", "max_length"):
        if hasattr(args, name):
            record[name] = getattr(args, name)
    if dataset is not None and hasattr(dataset, "__len__"):
        record["rows"] = len(dataset)
    former = config.training or {}
    if not isinstance(former, dict):
        raise ValueError(f"`training` in the model's config.json must be an object, got {former!r}: take it out.")
    if stage == "attribute_stage":  # which leaves no posterior, or fits one to its own rows
        former = {name: of for name, of in former.items() if name not in ("posterior", "intervals")}
    config.training = {**former, stage: record | dict(seen)}


def tell_other_form(training: Any, seen: Mapping[str, Any], name: str):
    """Says so where the rows of this stage are plain text and those of the stage before were chats."""
    told = describe_other_form(training, str(seen.get("read_as", "")))
    if told is not None:
        logger.warning("%s: %s.", name, told)
