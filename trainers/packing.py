"""Which way a run goes, packs or padded batches, and what both mean for batches and for the mean over rows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from datasets import IterableDataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl import RewardConfig

from urm_hf.scoring.engine.packed_attention import longest_window
from urm_hf.scoring.engine.running_pack import BACKENDS, PACK
from urm_hf.trainers.packed_models import Trial, find_backbone, take_packs, try_packs
from urm_hf.trainers.token_batches import TokenBatches

logger = logging.getLogger(__name__)

PACKINGS = ("tree", "flat", "none")


@dataclass
class PackingConfig(RewardConfig):
    """
    How rows become batches.

    Args:
        packing (`str`, *optional*):
            "tree": the rows of a batch go through the backbone without padding, and each common prefix once; "flat":
            without padding; "none": padded. By default "tree" where the model gives a padded batch's rewards so, else
            "none".
        max_tokens_per_step (`int`, *optional*):
            Tokens of a batch of one device, in place of `per_device_train_batch_size`: as many rows as fit, those of
            one prompt together.
        packed_attention (`str`, *optional*, defaults to `"auto"`):
            "blocks" (FlexAttention, one kernel for a pack), "spans" (a call for each stretch of it), or "auto": by the
            device.
    """

    packing: str | None = field(
        default=None,
        metadata={
            "help": "'tree': no padding, and each common prefix of a batch once; 'flat': no padding; 'none': padded "
            "batches. Default: 'tree' where the model takes packs, else 'none'."
        },
    )
    max_tokens_per_step: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of a batch of one device, in place of `per_device_train_batch_size`: as many rows as fit, "
            "those of one prompt together."
        },
    )
    packed_attention: str = field(
        default="auto", metadata={"help": "Attention of packs: 'blocks' (FlexAttention), 'spans', or 'auto'."}
    )

    def __post_init__(self):
        if self.packing not in (None, *PACKINGS):
            raise ValueError(f"`packing` must be one of {', '.join(PACKINGS)}, got {self.packing!r}.")
        if self.packed_attention not in BACKENDS:
            raise ValueError(
                f"`packed_attention` must be one of {', '.join(BACKENDS)}, got {self.packed_attention!r}."
            )
        if self.max_tokens_per_step is not None and self.max_tokens_per_step < 1:
            raise ValueError(f"`max_tokens_per_step` must be at least 1, got {self.max_tokens_per_step}.")
        super().__post_init__()


def count_tokens(inputs: dict[str, Any]) -> Tensor:
    """The tokens of a batch's conversations, however they are laid out."""
    if PACK in inputs:
        return torch.tensor(sum(inputs[PACK].packed.lengths), device=inputs["input_ids"].device)
    return inputs["attention_mask"].sum()


class TrainsOnPacks:
    """
    For a TRL trainer whose `args` are a [`PackingConfig`]: batches by tokens, and losses weighed by rows.

    transformers divides the loss by the number of micro-batches of a step. These may differ in size here, so that the
    sum over rows is divided by the rows of the step, on all processes: the mean that one large batch would give.
    """

    packing = "none"
    id_columns: Sequence[str] = ()  # of the token ids in a prepared row

    # of the trainer that it is mixed into
    args: Any
    model: Any
    accelerator: Any
    train_dataset: Any
    eval_dataset: Any
    data_collator: Any
    model_accepts_loss_kwargs: bool
    _metrics: Any

    def settle_packing(self, *, in_the_way: str | None = None) -> None:
        """
        Decides between packs and padded batches, once for the run. After the trainer's own constructor.

        Args:
            in_the_way (`str`, *optional*): what of the trainer's settings leaves no choice.

        Raises:
            ValueError: `packing` asks for what cannot be done.
        """
        if self.args.max_tokens_per_step is not None and isinstance(self.train_dataset, IterableDataset):
            raise ValueError(
                "`max_tokens_per_step` groups rows that begin alike, of which a streaming dataset cannot be searched: "
                "set `per_device_train_batch_size`, or load it whole."
            )
        if self.args.packing != "none" and self.train_dataset is not None:
            trial = self._try_packs() if in_the_way is None else Trial(in_the_way)
            self.packing = self._choose_packing(trial)
        if self.packing != "none":
            take_packs(find_backbone(self.model))  # in every process, of which only one tried it out
            self.data_collator.packing, self.data_collator.backend = self.packing, self.args.packed_attention
            self.data_collator.unread = trial.unread
        # whether transformers leaves it to the loss to weigh micro-batches, under its name and those before 5.19
        self.loss_is_scaled_for_ga = self.model_accepts_loss_kwargs = self.weighs_rows

    def _choose_packing(self, trial: Trial) -> str:
        asked = self.args.packing
        if trial.reason is not None and asked is not None:
            raise ValueError(f'`packing="{asked}"`: {trial.reason}. Set `packing="none"`, which pads.')
        if trial.reason is not None:
            logger.info('Padded batches (`packing="none"`): %s.', trial.reason)
            return "none"
        if asked != "flat" and trial.drops:
            told = "conversations that share a prefix would share its dropout"
            if asked == "tree":
                raise ValueError(f'`packing="tree"`: {told}. Set the dropout to 0, or `packing="flat"`.')
            logger.warning('Packs without sharing (`packing="flat"`): %s.', told)
            return "flat"
        return asked or "tree"

    def _try_packs(self) -> Trial:
        """Whether this model and these rows can be packed; the first process finds out, where there are several."""
        if is_deepspeed_zero3_enabled():
            return Trial("under DeepSpeed ZeRO-3 no process can try packs out, as none has the whole model")
        if self.args.neftune_noise_alpha is not None:
            return Trial("NEFTune scales its noise by the length of a row, and a pack is one row")
        if self.accelerator.num_processes > 1 and self._reads_streams():
            return Trial("one process reads a stream and sends its batches to the others, which packs cannot be")
        backbone = find_backbone(self.model)
        window = None if backbone is None else longest_window(backbone)
        if window is not None:
            longest = self._longest_row()
            if longest is None or longest > window:
                told = "any length" if longest is None else f"{longest} tokens"
                return Trial(f"a conversation may have {told}, which exceeds the attention window of {window}")
        trials: list[Trial | None] = [None]
        if self.accelerator.is_main_process:
            first = next(iter(self.train_dataset))
            pad, backend = self.data_collator.pad_token_id, self.args.packed_attention
            trials[0] = try_packs(self.model, first[self.id_columns[0]], pad, backend)
        if self.accelerator.num_processes > 1:
            broadcast_object_list(trials)
        assert trials[0] is not None  # the first process has tried
        return trials[0]

    def _longest_row(self) -> int | None:
        """Tokens of the longest conversation, to train or to evaluate on; of a stream what `max_length` allows."""
        if self._reads_streams():
            return self.args.max_length
        columns = [dataset[column] for dataset in self._datasets() for column in self.id_columns]
        return max(len(ids) for column in columns for ids in column)

    def _datasets(self) -> list[Any]:
        """To train and to evaluate on."""
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        return [self.train_dataset, *(dataset for dataset in evaluated.values() if dataset is not None)]

    def _reads_streams(self) -> bool:
        return any(isinstance(dataset, IterableDataset) for dataset in self._datasets())

    def run_model(self, model: Any, inputs: dict[str, Any]) -> Any:
        """
        The model's output for a batch.

        Raises:
            RuntimeError: the pack got lost on its way to the backbone, so that the output is of something else.
        """
        outputs = model(**inputs, use_cache=False)
        if PACK in inputs and not inputs[PACK].layers:
            raise RuntimeError(
                f"the backbone of {type(self.model).__name__} was not handed the pack of this batch: its rewards "
                'would be of the last tokens alone. Set `packing="none"`.'
            )
        return outputs

    @property
    def weighs_rows(self) -> bool:
        """Whether a step's loss is divided by its rows, and not by its micro-batches."""
        return self.packing != "none" or self.args.max_tokens_per_step is not None

    def mean_over_rows(self, losses: Tensor, rows: Tensor | None) -> Tensor:
        """
        Args:
            losses (`Tensor`): (B,) of a micro-batch.
            rows (`Tensor`, *optional*): those of the whole step, on all processes; None of an evaluation.
        """
        if rows is None:
            return losses.mean()
        return losses.sum() * self.accelerator.num_processes / rows  # DDP and FSDP average over processes

    def count_batch_rows(self, inputs: dict[str, Any]) -> int:
        """Rows of a batch."""
        raise NotImplementedError

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and the rows of the step where losses are weighed by rows."""
        batches, items = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]  # of the trainer
        if self.weighs_rows and batches:  # transformers counts labels, and none where there are no `labels`
            device = self.accelerator.device
            rows = torch.tensor(sum(self.count_batch_rows(batch) for batch in batches), device=device)
            items = self.accelerator.gather(rows).sum()
        return batches, items

    def get_train_dataloader(self) -> DataLoader:
        """Batches by tokens, where `max_tokens_per_step` asks for them."""
        if self.args.max_tokens_per_step is None:
            return super().get_train_dataloader()  # type: ignore[misc]
        dataset = self._remove_unused_columns(self.train_dataset, description="Training")  # type: ignore[attr-defined]
        args, accelerator = self.args, self.accelerator
        batches = TokenBatches(
            list(zip(*(dataset[column] for column in self.id_columns), strict=True)),
            args.max_tokens_per_step,
            self.packing,
            args.data_seed if args.data_seed is not None else args.seed,
            accelerator.num_processes,
            accelerator.process_index,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )
        # the batches are those of this process already
        return prepare_data_loader(
            loader, accelerator.device, num_processes=1, process_index=0, put_on_device=accelerator.device_placement
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As transformers estimates them; of a pack by the tokens that go through the backbone."""
        if PACK in inputs:
            inputs = {"input_ids": torch.empty(1, inputs[PACK].pack_length)}
        return super().floating_point_ops(inputs)  # type: ignore[misc]

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        if PACK in inputs:
            mask = torch.ones(1, int(count_tokens(inputs)), device=inputs["input_ids"].device)
            inputs = {"input_ids": mask, "attention_mask": mask}
        super()._track_num_input_tokens(inputs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        inputs = args[1] if len(args) > 1 else kwargs["inputs"]
        if PACK in inputs:
            running = inputs[PACK]
            lengths = running.packed.lengths
            padded = len(lengths) * max(lengths)
            self._metrics["train"]["computed_tokens"].append(running.pack_length / padded)
        return super().training_step(*args, **kwargs)  # type: ignore[misc]
