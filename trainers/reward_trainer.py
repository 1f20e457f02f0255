"""
TRL's Bradley-Terry training of a scalar reward model, several times faster: the rows of a batch are one pack.

Where this differs from TRL's `RewardTrainer`:
1. Rows are read as everywhere in this package: a conversation in `chosen` that repeats its `prompt` is not doubled.
2. Longer conversations than `max_length` (4096) are an error unless `truncation` says what to do; TRL leaves them out.
3. With `packing="none"` and no `max_tokens_per_step` a step is TRL's own.
"""

import os
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model
from transformers import AutoConfig, DataCollator, PreTrainedTokenizerBase, TrainerCallback
from trl import RewardTrainer

from urm_hf.data.template_dates import fix_dates
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.trainers.argument_types import (
    ComputeMetrics,
    EvalDataset,
    ModelSource,
    OptimizerClass,
    Optimizers,
    PreprocessLogits,
    TrainDataset,
)
from urm_hf.trainers.best_head import ResumesBestHead
from urm_hf.trainers.collators import DataCollatorForCachedPreference
from urm_hf.trainers.configs import URMRewardConfig
from urm_hf.trainers.divergence import StopsWhenDiverged
from urm_hf.trainers.encoding import column_names, encoder_for, longest_for
from urm_hf.trainers.loading import load_tokenizer_of, pin_source
from urm_hf.trainers.older_trl import RunsOnOlderTRL
from urm_hf.trainers.pairs import encode_pairs
from urm_hf.trainers.precision import check_master_weights
from urm_hf.trainers.preferences import LearnsPreferences
from urm_hf.trainers.whole_checkpoints import SavesWholeCheckpoints

if TYPE_CHECKING:  # both are optional
    from peft import PeftConfig
    from transformers import BitsAndBytesConfig


class URMRewardTrainer(
    StopsWhenDiverged,
    SavesWholeCheckpoints,
    ResumesBestHead,
    LearnsPreferences,
    RunsOnOlderTRL,
    RewardTrainer,
):
    """
    Trains any scalar reward model on preference pairs: stage 0 of a URM, or a reward model by itself.

    ```python
    trainer = URMRewardTrainer("Qwen/Qwen3-0.6B", URMRewardConfig("out"), train_dataset=pairs)
    ```

    Args:
        model (`str`, `PathLike`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            What `AutoModelForSequenceClassification` loads, with one label; or an instance; or a URM, all of which
            trains then.
        args ([`URMRewardConfig`], *optional*):
            Settings of the run. By default `URMRewardConfig("reward-model")`.
        data_collator ([`~transformers.DataCollator`], *optional*):
            By default packs, or TRL's padded batches.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Pairs in any form that TRL's [`RewardTrainer`] takes, or that `urm_hf.data` reads.
        eval_dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or `dict` of them, *optional*):
            Rows of the same form to evaluate on.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The tokenizer. By default the one saved with a `model` that is named.
        compute_metrics (`Callable[[EvalPrediction], dict]`, *optional*):
            By default TRL's accuracy, margin and rewards alone.
        callbacks (`list[TrainerCallback]`, *optional*):
            Added to the default ones.
        optimizers (`tuple[Optimizer | None, LambdaLR | None]`, *optional*, defaults to `(None, None)`):
            Optimizer and schedule in place of those that `args` describe.
        optimizer_cls_and_kwargs (`tuple[type[Optimizer], dict]`, *optional*):
            Class and arguments of the optimizer, in place of `args.optim`.
        preprocess_logits_for_metrics (`Callable[[Tensor, Tensor], Tensor]`, *optional*):
            What is done to a batch's outputs before they are kept for `compute_metrics`.
        quantization_config ([`~transformers.BitsAndBytesConfig`], *optional*):
            How to quantize a model that is loaded by name.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains an adapter; its `modules_to_save` should name the reward head.

    Raises:
        ValueError: rows that cannot be used, or settings that exclude each other.
    """

    _name = "Reward"

    def __init__(
        self,
        model: ModelSource,
        args: URMRewardConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: TrainDataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: ComputeMetrics | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
        optimizer_cls_and_kwargs: OptimizerClass | None = None,
        preprocess_logits_for_metrics: PreprocessLogits | None = None,
        quantization_config: "BitsAndBytesConfig | None" = None,
        peft_config: "PeftConfig | None" = None,
    ) -> None:
        args = args or URMRewardConfig("reward-model")
        if isinstance(model, (str, os.PathLike)):
            model = os.fspath(model)
            source = pin_source(model, args)
            processing_class = processing_class or load_tokenizer_of(source, args)
        self._config = _read_config(model, args)  # before TRL loads the model and prepares the rows
        args.max_length = longest_for(self._config, args.max_length)
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        fix_dates(self.processing_class)  # of a template that prints today's, before it is saved
        check_master_weights(self.model, self.is_fsdp_enabled or self.is_deepspeed_enabled)
        if data_collator is None:
            self.data_collator = DataCollatorForCachedPreference(
                self.processing_class.pad_token_id, args.pad_to_multiple_of
            )
        taken = None if data_collator is None else "the `data_collator` that was passed makes the batches"
        self.settle_packing(in_the_way=taken)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        # `evaluate` calls it again, in some versions of TRL with datasets that went through here before
        if "chosen_ids" in column_names(dataset):
            return dataset
        return encode_pairs(dataset, encoder_for(self._config, processing_class, args), args, dataset_name)


def _read_config(model: Any, args: URMRewardConfig) -> Any:
    if not isinstance(model, str):
        return (model.get_base_model() if is_peft_model(model) else model).config
    kwargs = args.model_init_kwargs or {}
    trust = kwargs.get("trust_remote_code", getattr(args, "trust_remote_code", False))  # TRL 1.0 has no such argument
    return AutoConfig.from_pretrained(model, trust_remote_code=trust, **HubPlace.read(dict(kwargs)).kwargs())
