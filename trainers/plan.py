"""What a training run would do, told before it does it: what trains, in which precision, how long, in what memory."""

from dataclasses import dataclass
from typing import Any

from datasets import IterableDataset

from urm_hf.trainers.lengths import count_steps

ID_COLUMNS = ("input_ids", "chosen_ids", "rejected_ids")
GPUS = (1, 2, 4, 8)  # for which memory is told
ADAM = 8  # bytes of optimizer state a weight: two float32 averages
# Bytes of activations a token and hidden unit of one layer, in 16 bits and without attention matrices (Korthikanti et
# al., 2022, arXiv:2205.05198, table 2 with s = 1): what backward needs of a layer that is not computed again.
LAYER_BYTES = 34
LAYOUTS = {
    "tree": 'in packs, each common prefix once (`packing="tree"`)',
    "flat": 'in packs, without padding (`packing="flat"`)',
    "none": 'padded (`packing="none"`)',
}
GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class Plan:
    """
    Args:
        parameters, trained (`int`): weights of the model, and those among them that train.
        dtypes (`dict[str, int]`): weights that train by the precision that they are kept in.
        rows, tokens (`int`, *optional*): of the training set, in an epoch; None of a stream.
        longest (`int`, *optional*): tokens of the longest conversation.
        batch (`int`): rows in a step, over all processes.
        packing (`str`): how rows become batches, see [`PackingConfig`].
        steps (`int`): optimization steps of the run.
        fixed_bytes (`int`): frozen weights, in bytes.
        trained_bytes (`int`): weights that train, their gradients and the optimizer's state, in bytes.
        activation_bytes (`int`, *optional*): of a batch of one process, in bytes; an estimate from above. None where
            only heads train.
    """

    parameters: int
    trained: int
    dtypes: dict[str, int]
    rows: int | None
    tokens: int | None
    longest: int | None
    batch: int
    packing: str
    steps: int
    fixed_bytes: int
    trained_bytes: int
    activation_bytes: int | None

    def memory(self, gpus: int, *, sharded: bool) -> float:
        """
        Bytes on each GPU, without activations.

        Args:
            gpus (`int`): how many there are.
            sharded (`bool`): whether FSDP or ZeRO-3 divides weights, gradients and optimizer between them.
        """
        return (self.fixed_bytes + self.trained_bytes) / (gpus if sharded else 1)


def plan_run(trainer: Any) -> Plan:
    """
    Args:
        trainer (`URMAttributeTrainer` or `URMGatingTrainer`): built, so that all that can be refused was refused.
    """
    args, model = trainer.args, trainer.model
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    dtypes: dict[str, int] = {}
    for weight in trained:
        name = str(weight.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + weight.numel()
    lengths = _read_lengths(trainer.train_dataset)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.max_tokens_per_step is not None and lengths is not None:  # as many rows as fit, on average
        parts = len(trainer.get_train_dataloader()) * args.world_size
        batch = round(len(trainer.train_dataset) / parts * args.gradient_accumulation_steps * args.world_size)
    if lengths is not None:
        batch = min(batch, len(trainer.train_dataset))
    return Plan(
        parameters=sum(weight.numel() for weight in model.parameters()),
        trained=sum(weight.numel() for weight in trained),
        dtypes=dtypes,
        rows=None if lengths is None else len(trainer.train_dataset),
        tokens=None if lengths is None else sum(lengths),
        longest=None if lengths is None else max(lengths),
        batch=batch,
        packing=trainer.packing,
        steps=count_steps(args, None if lengths is None else len(trainer.get_train_dataloader())),
        fixed_bytes=sum(weight.numel() * weight.element_size() for weight in frozen),
        trained_bytes=sum(weight.numel() * (2 * weight.element_size() + ADAM) for weight in trained),
        activation_bytes=None if lengths is None else _estimate_activations(trainer, max(lengths)),
    )


def format_plan(plan: Plan, output_dir: str) -> str:
    """The plan as lines for a terminal."""
    kept = ", ".join(f"{count:,} in {dtype}" for dtype, count in plan.dtypes.items())
    lines = [f"A dry run: nothing is trained, and no model is written to {output_dir}."]
    lines.append(f"Trains {plan.trained:,} of {plan.parameters:,} weights ({kept or 'none'}).")
    if plan.rows is not None:
        told = f"{plan.rows:,} rows, {plan.tokens:,} tokens an epoch"
        lines.append(f"{told}; the longest conversation has {plan.longest:,}.")
    lines.append(f"{plan.steps:,} steps of {plan.batch:,} rows, {LAYOUTS[plan.packing]}.")
    lines.append("Memory of each GPU for weights, gradients and Adam:")
    lines.append(f"  {'GPUs':>4}  {'each holds all':>14}  {'shared (FSDP2, ZeRO-3)':>22}")
    for gpus in GPUS:
        whole, part = (format_bytes(plan.memory(gpus, sharded=sharded)) for sharded in (False, True))
        lines.append(f"  {gpus:>4}  {whole:>14}  {part:>22}")
    if plan.activation_bytes is not None:
        lines.append(f"Activations of a batch, at most about: {format_bytes(plan.activation_bytes)} on each GPU.")
    return "\n".join(lines)


def format_bytes(count: float) -> str:
    """In GiB, or in MiB where it is less than one."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def _read_lengths(dataset: Any) -> list[int] | None:
    """Tokens of each conversation of an encoded dataset; None of a stream, and where hidden states stand for them."""
    if isinstance(dataset, IterableDataset):
        return None
    columns = [name for name in ID_COLUMNS if name in dataset.column_names]
    return [len(ids) for name in columns for ids in dataset[name]] or None


def _estimate_activations(trainer: Any, longest: int) -> int | None:
    """Bytes for a batch of the longest conversations; with checkpointing one hidden state a layer, and one layer."""
    args, config = trainer.args, trainer.model.config
    answers = sum(name in trainer.train_dataset.column_names for name in ID_COLUMNS)  # two of a pair
    tokens = args.max_tokens_per_step or args.per_device_train_batch_size * answers * longest
    width = 2 if args.bf16 or args.fp16 else 4
    layer = LAYER_BYTES * width // 2 * config.hidden_size
    if not any(weight.requires_grad for weight in trainer.model.base_model.parameters()):
        return None  # nothing is kept for backward below the head
    if args.gradient_checkpointing:
        return tokens * (config.num_hidden_layers * width * config.hidden_size + layer)
    return tokens * config.num_hidden_layers * layer
