"""What is left of a training run: a whole model or an adapter in its folder, a picture, and a copy on the Hub."""

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model

from urm_hf.checkpoints.adapters import load_adapter, save_adapter_with_head
from urm_hf.hub.publish import push
from urm_hf.modeling import URMConfig
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.modeling.tokenizer_urm import save_tokenizer
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.outputs import remove_other_kind


def save_run(trainer: Any, args: Any, data: DataArguments, adapter: MemberSource | None) -> None:
    """
    Saves a trained model in `args.output_dir`, and pushes it where `args.push_to_hub` asks for that.

    Args:
        trainer (`URMAttributeTrainer` or `URMGatingTrainer`): has trained.
        args (`URMAttributeConfig` or `URMGatingConfig`): where to save, and whether and where to push.
        data (`DataArguments`): whether an adapter is saved as one, and whether there is a picture.
        adapter (`MemberSource`, *optional*): of the gating stage on an adapter: what is saved is a copy of it with the
            new head, since the model that trained has the adapter merged into its base.
    """
    merges = is_peft_model(trainer.model) and not _is_quantized(trainer.model) and not data.save_adapter
    if merges and trainer.is_deepspeed_enabled:
        raise ValueError(
            "under DeepSpeed an adapter cannot be merged: no process has the whole base. Say --save_adapter."
        )
    written_here = merges or adapter is not None
    if not written_here:
        # every process takes part: under FSDP and DeepSpeed each holds a shard. Marked as internal, since it would
        # push as well otherwise.
        trainer.save_model(args.output_dir, _internal_call=True)
    elif merges and trainer.is_fsdp_enabled:
        _merge_parts(trainer, args.output_dir)
    elif trainer.is_world_process_zero():
        if adapter is not None:
            save_adapter_with_head(adapter.name, trainer.model, args.output_dir, **adapter.place.kwargs())
        else:
            trainer.model.merge_and_unload().save_pretrained(args.output_dir)
        save_tokenizer(trainer.processing_class, args.output_dir)
    if trainer.is_world_process_zero():
        is_adapter = adapter is not None or (is_peft_model(trainer.model) and not merges)
        remove_other_kind(Path(args.output_dir), is_adapter=is_adapter)
    if data.plots and trainer.is_world_process_zero():
        from urm_hf.trainers.plot import plot_training

        print(f"Plot: {plot_training(trainer.state.log_history, Path(args.output_dir) / 'training.png')}")
    if not args.push_to_hub:
        return
    if not written_here:
        trainer.push_to_hub()
    elif trainer.is_world_process_zero():  # the trainer would push the model it holds, not the one in the folder
        push(args.output_dir, trainer.hub_model_id, private=None, revision=args.hub_revision, token=args.hub_token)


def check_can_save(trainer: Any, data: DataArguments) -> None:
    """
    Refuses to train what could not be saved.

    Raises:
        ValueError: an adapter of a scalar model that FSDP shards, to be merged; or any under DeepSpeed, which leaves
            weights that do not train out of the state dict that it gathers, and with them a part of the head, and
            gives no process the whole base to merge into.
    """
    if trainer.is_deepspeed_enabled and is_peft_model(trainer.model):
        raise ValueError(
            "an adapter (`use_peft`) cannot be saved under DeepSpeed. Launch it with examples/recipes/fsdp2.yaml, or "
            "on one GPU."
        )
    if trainer.is_fsdp_enabled and _merges(trainer, data) and not isinstance(trainer.model.config, URMConfig):
        raise ValueError(
            "under FSDP the adapter of a scalar reward model cannot be merged, as no process has the whole base: say "
            "`--save_adapter`, or train it on one GPU."
        )


def _merges(trainer: Any, data: DataArguments) -> bool:
    """Whether an adapter becomes a part of its base. A quantized base could not be quantized again without loss."""
    return is_peft_model(trainer.model) and not _is_quantized(trainer.model) and not data.save_adapter


def _merge_parts(trainer: Any, output_dir: str) -> None:
    """
    Saves an adapter and its base as one model, where each process holds a part of both.

    Every process takes part in saving the adapter. The first one then reads it back onto the whole base: on the CPU,
    as no GPU need be large enough for it.
    """
    folder, config = Path(output_dir) / "adapter", trainer.model.config
    trainer.save_model(str(folder), _internal_call=True)
    if trainer.is_world_process_zero():
        model = load_adapter(folder, dtype=config.dtype or torch.float32)
        model.config.name_or_path = config.name_or_path  # the base, not the folder that is removed below
        model.save_pretrained(output_dir)
        save_tokenizer(trainer.processing_class, output_dir)
        shutil.rmtree(folder)
    trainer.accelerator.wait_for_everyone()


def check_base_to_push(base: str) -> None:
    """
    Refuses to push an adapter that nobody else could load.

    Raises:
        ValueError: its base is a folder of this machine.
    """
    if Path(base).is_dir():
        raise ValueError(
            f"`--push_to_hub` of an adapter: its base {base} is a local folder, which nobody else can load. Push the "
            "base first and train on its repository, or leave out `--push_to_hub`."
        )


def _is_quantized(model: Any) -> bool:
    # the flag is on the model that was loaded, which an adapter or a URM wraps
    return any(getattr(module, "is_quantized", False) for module in model.modules())
