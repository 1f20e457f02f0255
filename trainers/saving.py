"""What is left of a training run: a whole model or an adapter in its folder, a picture, and a copy on the Hub."""

from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model

from urm_hf.checkpoints.adapters import save_adapter_with_head
from urm_hf.hub.publish import push
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.modeling.tokenizer_urm import save_tokenizer
from urm_hf.trainers.data_arguments import DataArguments


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
    # a merged model cannot be quantized again without loss: there the adapter is saved, on the base as it was loaded
    merges = is_peft_model(trainer.model) and not _is_quantized(trainer.model) and not data.save_adapter
    written_here = merges or adapter is not None
    if not written_here:
        # every process takes part: under FSDP and DeepSpeed each holds a shard. Marked as internal, since it would
        # push as well otherwise.
        trainer.save_model(args.output_dir, _internal_call=True)
    elif trainer.is_world_process_zero():
        if adapter is not None:
            save_adapter_with_head(adapter.name, trainer.model, args.output_dir, **adapter.place.kwargs())
        else:
            trainer.model.merge_and_unload().save_pretrained(args.output_dir)
        save_tokenizer(trainer.processing_class, args.output_dir)
    if data.plots and trainer.is_world_process_zero():
        from urm_hf.trainers.plot import plot_training

        print(f"Plot: {plot_training(trainer.state.log_history, Path(args.output_dir) / 'training.png')}")
    if not args.push_to_hub:
        return
    if not written_here:
        trainer.push_to_hub()
    elif trainer.is_world_process_zero():  # the trainer would push the model it holds, not the one in the folder
        push(args.output_dir, trainer.hub_model_id, private=None, revision=args.hub_revision, token=args.hub_token)


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
