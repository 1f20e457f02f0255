"""
Gating stage: the gate learns from preference pairs how to weigh the attributes; all else is frozen (Eq. 6).

The loss is TRL's Bradley-Terry loss, as it is: URM's `logits` are the gated reward. With `cache_features` the hidden
state of each distinct conversation is computed once, and an epoch costs no more than the gate.
"""

import os
from typing import TYPE_CHECKING, Any

import torch
from datasets import IterableDataset
from transformers import DataCollator, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from trl import RewardTrainer

from urm_hf.data.template_dates import fix_dates
from urm_hf.trainers.argument_types import (
    ComputeMetrics,
    EvalDataset,
    ModelSource,
    OptimizerClass,
    Optimizers,
    PreprocessLogits,
    TrainDataset,
)
from urm_hf.trainers.best_head import KeepBestHead, ResumesBestHead, read_keep_best
from urm_hf.trainers.collators import DataCollatorForCachedPreference
from urm_hf.trainers.configs import GATING_STEPS, URMGatingConfig
from urm_hf.trainers.divergence import StopsWhenDiverged
from urm_hf.trainers.encoding import column_names, encoder_for, longest_for
from urm_hf.trainers.frozen_features import (
    FeatureStore,
    frozen_fingerprint,
    index_datasets,
    refuse_streams,
    train_only,
)
from urm_hf.trainers.lengths import warn_of_many_epochs
from urm_hf.trainers.loading import load_tokenizer_of, load_urm, name_base, pin_source
from urm_hf.trainers.older_trl import RunsOnOlderTRL
from urm_hf.trainers.pairs import encode_pairs
from urm_hf.trainers.preferences import LearnsPreferences
from urm_hf.trainers.publishing import PublishesWholeModels
from urm_hf.trainers.sharding import load_everywhere, share_statistics
from urm_hf.trainers.stage_records import record_stage, tell_other_form
from urm_hf.trainers.whole_checkpoints import SavesWholeCheckpoints

if TYPE_CHECKING:  # both are optional
    from peft import PeftConfig
    from transformers import BitsAndBytesConfig

ID_COLUMNS = {"chosen_ids": "chosen_feature", "rejected_ids": "rejected_feature"}


class URMGatingTrainer(
    StopsWhenDiverged,
    SavesWholeCheckpoints,
    ResumesBestHead,
    PublishesWholeModels,
    LearnsPreferences,
    RunsOnOlderTRL,
    RewardTrainer,
):
    """
    Trains the gate of a URM on preference pairs.

    ```python
    trainer = URMGatingTrainer("urm-attributes", URMGatingConfig("out"), train_dataset=pairs, eval_dataset=held_out)
    ```

    Args:
        model (`str`, `PathLike`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            A URM with a trained value head, or the repository or folder of one.
        args ([`URMGatingConfig`], *optional*):
            Settings of the run. By default `URMGatingConfig("urm-gating")`.
        data_collator ([`~transformers.DataCollator`], *optional*):
            By default [`DataCollatorForCachedPreference`].
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Pairs in any form that TRL's [`RewardTrainer`] takes: `chosen` and `rejected`, with or without `prompt`, as
            messages or text, with an optional `margin`; and `prompt` messages with answers that are strings.
        eval_dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or `dict` of them, *optional*):
            Rows of the same form to evaluate on, and to choose the best heads by.
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
            How to quantize a backbone that is loaded by name.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Always an error: there is nothing to adapt in a backbone that is frozen.

    Raises:
        ValueError: the model has no gate to train, or settings exclude each other.
        RuntimeError: after training, if a weight outside the gate has changed.
    """

    _tag_names = ["trl", "urm", "uncertainty", "reward-model"]
    _name = "URM gating"

    def __init__(
        self,
        model: ModelSource,
        args: URMGatingConfig | None = None,
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
        args = args or URMGatingConfig("urm-gating")
        _check_settings(args, train_dataset, eval_dataset, peft_config)
        model, processing_class = _load(model, args, processing_class, quantization_config)
        name_base(model, None, frozen=not args.save_backbone)
        args.max_length = longest_for(model.config, args.max_length)
        if model.score.gate is None:
            raise ValueError("this URM weighs its attributes by fixed `reward_weights`: there is no gate to train.")
        if isinstance(train_dataset, IterableDataset) and not args.length_is_given:
            args.max_steps = GATING_STEPS
        keep_best = read_keep_best(args, eval_dataset, heads_alone=True)
        if keep_best:
            _set_evaluations(args)
        # before TRL prepares the datasets in its own constructor, which reads both
        self._features: FeatureStore | None = None
        self._urm_config, self._seen = model.config, dict[str, Any]()
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
            # no `peft_config`, and no `quantization_config`: the model is loaded already
        )
        if self.is_fsdp_enabled:
            share_statistics(self.model)
        fix_dates(self.processing_class)  # of a template that prints today's, before it is saved
        train_only(self.model, self.model.score.gate)
        tell_other_form(self.model.config.training, self._seen, "the train dataset")
        record_stage(self.model.config, "gating_stage", args, self.train_dataset, self._seen)
        # after the constructor, which has made tokens of the rows: hidden states need the model where it will train
        if args.cache_features and not args.dry_run:
            self._features = FeatureStore(self)
            index_datasets(self, self._features, ID_COLUMNS)
        if data_collator is None:
            self.data_collator = DataCollatorForCachedPreference(
                self.processing_class.pad_token_id, args.pad_to_multiple_of, features=self._features or {}
            )
        self.settle_packing(in_the_way=_find_obstacle(args, data_collator))
        warn_of_many_epochs(args, self.train_dataset)
        if keep_best:
            gate = self.model.score.gate
            self.add_callback(KeepBestHead(gate, "eval_accuracy", greater_is_better=True, patience=args.patience))

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        # `evaluate` calls it again, in some versions of TRL with datasets that went through here before
        columns = column_names(dataset)
        if "chosen_feature" in columns:
            return dataset
        if "chosen_ids" not in columns:
            encoder = encoder_for(self._urm_config, processing_class, args)
            seen = self._seen if dataset_name == "train" else None
            dataset = encode_pairs(dataset, encoder, args, dataset_name, seen)
        return dataset if self._features is None else self._features.index(dataset, ID_COLUMNS, dataset_name)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        cached = ["chosen_feature", "rejected_feature", "feature_file"]
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *cached]))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        # Eq. 6 trains the gate alone. A callback, or an optimizer that was passed, may hold other parameters all the
        # same; what came out would be no URM of stage 1 any more.
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # no process has the weights that it could compare
            return super().train(*args, **kwargs)
        before = frozen_fingerprint(self.model, self.model.score.gate)
        result = super().train(*args, **kwargs)
        if frozen_fingerprint(self.model, self.model.score.gate) != before:
            raise RuntimeError("weights outside the gate changed during the gating stage; do not use this model.")
        return result

    def gate_report(self) -> dict[str, tuple[float, float]]:
        """
        How the gate weighs, over the conversations of the eval set, or of the training set where there is none.

        Returns:
            `{attribute: (mean, standard deviation)}` of its weight.
        """
        dataset = self.train_dataset if self.eval_dataset is None else self.eval_dataset
        weights = []
        for inputs in self.get_eval_dataloader(dataset):
            inputs = {name: tensor for name, tensor in self._prepare_inputs(inputs).items() if name != "margin"}
            with torch.inference_mode():
                weights.append(self.model.eval()(**inputs).gating_weights.cpu())
        std, mean = torch.std_mean(torch.cat(weights), dim=0, correction=0)  # of (N, n)
        moments = zip(mean.tolist(), std.tolist(), strict=True)
        return dict(zip(self.model.config.attributes, moments, strict=True))

    def compute_loss(self, model, inputs, *args, **kwargs):
        if self.model.training:
            # Trainer puts the whole model in training mode before each step: dropout in a frozen backbone would train
            # the gate on other hidden states than those it will see
            self.model.model.eval()
        result = super().compute_loss(model, inputs, *args, **kwargs)
        if self._features is not None:  # cached hidden states pass no token through the backbone
            self._metrics["train" if self.model.training else "eval"].pop("num_tokens", None)
        return result


def _load(model: Any, args: URMGatingConfig, tokenizer: Any, quantization_config: Any) -> tuple[Any, Any]:
    """The URM, and the tokenizer that was given or is saved with it."""
    if isinstance(model, (str, os.PathLike)):
        model = os.fspath(model)
        source = pin_source(model, args)
        tokenizer = load_tokenizer_of(source, args) if tokenizer is None else tokenizer
    if args.cache_features:
        load_everywhere("cache_features=True")
    return load_urm(model, args, fresh_heads=False, quantization_config=quantization_config), tokenizer


def _check_settings(args: URMGatingConfig, train_dataset, eval_dataset, peft_config):
    """What can be told before anything is loaded."""
    if peft_config is not None:
        raise ValueError("the gating stage freezes the backbone, so that `peft_config` would have nothing to adapt.")
    if args.cache_features:
        refuse_streams([train_dataset, eval_dataset], "cache_features=False")
    if args.reward_weights is not None:
        raise ValueError("`reward_weights` replace the gate: call `model.fix_reward_weights(...)`, nothing trains.")


def _find_obstacle(args: URMGatingConfig, data_collator) -> str | None:
    """What leaves packs no place."""
    if args.cache_features:
        return "hidden states are computed once (`cache_features`), and no token passes the backbone after that"
    return None if data_collator is None else "the `data_collator` that was passed makes the batches"


def _set_evaluations(args: URMGatingConfig):
    """Evaluations to choose the best gate by, where none were asked for."""
    if args.eval_strategy == IntervalStrategy.NO:
        args.eval_strategy = IntervalStrategy.STEPS if (args.max_steps or 0) > 0 else IntervalStrategy.EPOCH
        # 40 looks at a run: on cached hidden states they cost little
        args.eval_steps = max(1, (args.max_steps or 0) // 40)
