"""A training run from files: load the data, train a stage, save what any tool can load. Behind `urm train`."""

from pathlib import Path
from typing import Any, TypeVar

from trl import ModelConfig, get_peft_config, get_quantization_config

from urm_hf.checkpoints.files import explain_full_disk
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig, URMForRewardModeling
from urm_hf.modeling.backbone_urm import read_config
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.modeling.tokenizer_urm import load_tokenizer, save_tokenizer
from urm_hf.trainers import (
    URMAttributeConfig,
    URMAttributeTrainer,
    URMGatingConfig,
    URMGatingTrainer,
    URMRewardConfig,
    URMRewardTrainer,
)
from urm_hf.trainers.attributes import infer_attributes
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.gate_reports import describe_gate, read_correlations
from urm_hf.trainers.loading import pin_source
from urm_hf.trainers.log_lines import drop_undefined, print_short_lines
from urm_hf.trainers.members import train_members
from urm_hf.trainers.outputs import check_run_folder, remove_checkpoints
from urm_hf.trainers.plan import format_plan, plan_run
from urm_hf.trainers.resuming import find_checkpoint, is_finished
from urm_hf.trainers.saving import check_base_to_push, check_can_save, save_run
from urm_hf.trainers.splits import load_splits

__all__ = ["DataArguments", "load_splits", "train_attributes", "train_gating", "train_members", "train_reward"]

Config = TypeVar("Config", URMAttributeConfig, URMGatingConfig, URMRewardConfig)


def train_reward(data: DataArguments, args: URMRewardConfig, model: ModelConfig) -> Path | None:
    """
    Stage 0: a scalar reward model on preference pairs, by the Bradley-Terry loss.

    Args:
        data (`DataArguments`): the rows, and what to save.
        args (`URMRewardConfig`): settings of the trainer.
        model (`ModelConfig`): TRL's flags of the model. With those of LoRA (`use_peft`) the adapter is merged, unless
            the model is quantized or `save_adapter` is set.

    Returns:
        The folder of the trained model, or adapter; None of a dry run.

    Raises:
        ValueError: settings that exclude each other, or data that cannot be read.
    """
    check_run_folder(data, args, model.model_name_or_path)
    skipped_to = args.output_dir if args.on_error == "skip" else None
    train, held_out = load_splits(data, args.seed, skipped_to=skipped_to)
    model.lora_task_type = "SEQ_CLS"
    trainer = URMRewardTrainer(
        _read_name(model),
        _add_model_flags(args, model),
        train_dataset=train,
        eval_dataset=held_out,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    return _run(trainer, args, data)


def train_attributes(data: DataArguments, args: URMAttributeConfig, model: ModelConfig) -> Path | None:
    """
    Stage 1: the value head, and the backbone or an adapter, on rated conversations.

    Args:
        data (`DataArguments`): the rows, and what to save.
        args (`URMAttributeConfig`): settings of the trainer.
        model (`ModelConfig`): TRL's flags of the model. With those of LoRA (`use_peft`) the adapter is merged, unless
            the model is quantized or `save_adapter` is set.

    Returns:
        The folder of the trained model, or adapter; None of a dry run.

    Raises:
        ValueError: settings that exclude each other, or data that cannot be read.
    """
    check_run_folder(data, args, model.model_name_or_path)
    if data.save_adapter and not model.use_peft:
        raise ValueError("`--save_adapter` needs an adapter: add `--use_peft`.")
    if data.save_adapter and args.push_to_hub:
        check_base_to_push(_read_name(model))
    skipped_to = args.output_dir if args.on_error == "skip" else None
    train, held_out = load_splits(data, args.seed, args.attributes or HELPSTEER2_ATTRIBUTES, skipped_to)
    if args.attributes is None and not _is_urm(model):
        args.attributes, unread = infer_attributes(train, HELPSTEER2_ATTRIBUTES)
        if args.attributes != list(HELPSTEER2_ATTRIBUTES):
            print(f"Ratings are read from {', '.join(args.attributes)}; `--attributes` names others.")
        for told in unread:
            print(f"Not read as ratings: {told}.")
    model.lora_task_type = "SEQ_CLS"
    trainer = URMAttributeTrainer(
        _read_name(model),
        _add_model_flags(args, model),
        train_dataset=train,
        eval_dataset=held_out,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    return _run(trainer, args, data)


def train_gating(data: DataArguments, args: URMGatingConfig, model: ModelConfig) -> Path | None:
    """
    Stage 2: the gate, on preference pairs. With `reward_weights` there is nothing to train: they are written into the
    model.

    Args:
        data (`DataArguments`): the rows, and what to save.
        args (`URMGatingConfig`): settings of the trainer.
        model (`ModelConfig`): TRL's flags of the model, which names what stage 1 saved.

    Returns:
        The folder of the trained model; on an adapter, of an adapter again; None of a dry run.

    Raises:
        ValueError: settings that exclude each other, or data that cannot be read.
    """
    check_run_folder(data, args, model.model_name_or_path)
    if args.reward_weights is not None:
        return _fix_weights(args, model)
    skipped_to = args.output_dir if args.on_error == "skip" else None
    train, held_out = load_splits(data, args.seed, skipped_to=skipped_to)
    source = pin_source(_read_name(model), _add_model_flags(args, model))
    base = source.base()
    if base is not None and args.push_to_hub:
        check_base_to_push(base.name)
    trainer = URMGatingTrainer(_read_name(model), args, train_dataset=train, eval_dataset=held_out)
    path = _run(trainer, args, data, None if base is None else source)
    if path is None:
        return None
    print(describe_gate(trainer.gate_report(), read_correlations(_read_name(model))))
    return path


def _run(trainer: Any, args: Any, data: DataArguments, adapter: MemberSource | None = None) -> Path | None:
    """Trains, evaluates and saves: the model, the adapter that it is, or a copy of `adapter` with its new head."""
    check_can_save(trainer, data)
    print_short_lines(trainer)
    if args.dry_run:
        if trainer.is_world_process_zero():
            print(format_plan(plan_run(trainer), args.output_dir))
        return None
    checkpoint = find_checkpoint(args.output_dir, args.resume_from_checkpoint)
    if data.overwrite and checkpoint is None and trainer.is_world_process_zero():
        remove_checkpoints(Path(args.output_dir))
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled  # whose weights only `train` can load
    if checkpoint and not sharded and is_finished(checkpoint, args.max_steps, args.num_train_epochs):
        trainer.restore(checkpoint)  # the run was killed after its last step
    else:
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        _tell_how_it_went(trainer)
    if trainer.eval_dataset is not None:
        # once more, now that the best heads are back: the last evaluation of the training was of the last ones
        metrics = drop_undefined(trainer.evaluate())
        if hasattr(trainer.eval_dataset, "num_rows"):
            metrics["eval_samples"] = trainer.eval_dataset.num_rows
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.save_state()
    with explain_full_disk(args.output_dir):
        save_run(trainer, args, data, adapter)
    return Path(args.output_dir)


def _tell_how_it_went(trainer: Any):
    """Which head was kept, and how to learn whether it is any good where no row was held out to see it on."""
    for keeper in trainer.find_keepers():
        print(keeper.describe(trainer.state))
    if trainer.eval_dataset is None:
        print(
            "No rows were held out, so that nothing is known of how good it is on others: `--eval_rows_held_out 100` "
            "holds some out, and `--eval_dataset_name FILE` names others."
        )


def _fix_weights(args: URMGatingConfig, model: ModelConfig) -> Path:
    """A model that weighs its attributes by the given numbers."""
    name, revision = _read_name(model), model.model_revision
    urm = URMForRewardModeling.from_pretrained(name, revision=revision, dtype="auto")
    urm.fix_reward_weights(args.reward_weights or [])
    with explain_full_disk(args.output_dir):
        urm.save_pretrained(args.output_dir)
        save_tokenizer(load_tokenizer(name, revision=revision), args.output_dir)
    return Path(args.output_dir)


def _read_name(model: ModelConfig) -> str:
    if not model.model_name_or_path:
        raise ValueError("`--model_name_or_path` is missing: a URM, a causal LM or a scalar reward model.")
    return model.model_name_or_path


def _is_urm(model: ModelConfig) -> bool:
    """Whether what is trained on has attributes of its own."""
    config = read_config(_read_name(model), HubPlace(revision=model.model_revision))
    return config.get("model_type") == URMConfig.model_type


def _add_model_flags(args: Config, model: ModelConfig) -> Config:
    """TRL's model flags as keyword arguments for loading; what a config file says in `model_init_kwargs` wins."""
    flags = {"dtype": model.dtype, "revision": model.model_revision, "attn_implementation": model.attn_implementation}
    given = {name: value for name, value in flags.items() if value is not None}
    args.model_init_kwargs = {**given, **(args.model_init_kwargs or {})}
    return args
