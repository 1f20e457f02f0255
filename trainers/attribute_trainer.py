"""
Attribute stage: the value head, and the backbone unless it is frozen, learn the distribution of human ratings.

Where this differs from the paper:
1. `standardize_labels` (on by default): the loss sees ratings in units of their mean and std over the training set.
2. Rows may have several ratings of an attribute, or none: the loss is the sum over attributes of the average over all
   its ratings, estimated without bias by each batch. With one rating everywhere it is Eq. 4 exactly.
3. `freeze_backbone`: only the value head trains, on cached and standardised hidden states.
"""

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import is_peft_model
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import DataCollator, EvalPrediction, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from trl import RewardTrainer

from urm_hf.checkpoints.adapters import complete_adapter
from urm_hf.data.ratings import rating_statistics, ratings_array
from urm_hf.data.template_dates import fix_dates
from urm_hf.modeling.configuration_urm import URMConfig, check_scales
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.statistics.rating_metrics import attribute_metrics, scales_tensor
from urm_hf.trainers.argument_types import (
    ComputeMetrics,
    EvalDataset,
    ModelSource,
    OptimizerClass,
    Optimizers,
    PreprocessLogits,
    TrainDataset,
)
from urm_hf.trainers.attributes import check_all_rated
from urm_hf.trainers.best_head import KeepBestHead, ResumesBestHead, read_keep_best
from urm_hf.trainers.collators import DataCollatorForRatings
from urm_hf.trainers.configs import URMAttributeConfig
from urm_hf.trainers.divergence import StopsWhenDiverged
from urm_hf.trainers.encoding import column_names, encode_dataset, encoder_for, longest_for
from urm_hf.trainers.frozen_features import FeatureStore, index_datasets, refuse_streams, train_only
from urm_hf.trainers.loading import load_tokenizer_of, load_urm, name_base, pin_source
from urm_hf.trainers.losses import attribute_loss, squared_error
from urm_hf.trainers.noise import draw_noise
from urm_hf.trainers.older_trl import RunsOnOlderTRL
from urm_hf.trainers.packing import TrainsOnPacks, count_tokens
from urm_hf.trainers.posteriors import fit_on_cached
from urm_hf.trainers.precision import check_master_weights
from urm_hf.trainers.publishing import PublishesWholeModels
from urm_hf.trainers.rated_rows import RatedRows, plan_rated_rows, read_rated_rows
from urm_hf.trainers.rating_logs import average_sums, sum_batch
from urm_hf.trainers.row_means import LogsRowMeans
from urm_hf.trainers.sharding import load_everywhere, share_statistics
from urm_hf.trainers.stage_records import record_stage
from urm_hf.trainers.whole_checkpoints import SavesWholeCheckpoints

if TYPE_CHECKING:  # both are optional
    from peft import PeftConfig
    from transformers import BitsAndBytesConfig

ENCODED = {"input_ids", "ratings", "weight"}  # the columns of a dataset that was prepared before
ID_COLUMNS = {"input_ids": "feature"}
# Standardised by N rows, a Gaussian feature of another row has the mean square (N + 1) / (N - 3), not 1: beyond all
# bounds up to N = 3, 1.5 at 11, 1.04 at 100.
FEWEST_ROWS = 11


class URMAttributeTrainer(
    StopsWhenDiverged,
    SavesWholeCheckpoints,
    ResumesBestHead,
    PublishesWholeModels,
    LogsRowMeans,
    TrainsOnPacks,
    RunsOnOlderTRL,
    RewardTrainer,
):
    """
    Trains a URM on rated conversations.

    ```python
    ratings = load_dataset("nvidia/HelpSteer2", split="train")
    trainer = URMAttributeTrainer("Qwen/Qwen3-0.6B", URMAttributeConfig("out"), train_dataset=ratings)
    ```

    Args:
        model (`str`, `PathLike`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            A URM, or the repository or folder of one, or of a causal LM or scalar reward model that gets fresh heads.
        args ([`URMAttributeConfig`], *optional*):
            Settings of the run. By default `URMAttributeConfig("urm-attributes")`.
        data_collator ([`~transformers.DataCollator`], *optional*):
            By default [`DataCollatorForRatings`].
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Rows of a conversation (see `urm_hf.data.conversations`) with a column for each attribute: a number, a list
            of numbers, or null (see `urm_hf.data.ratings`). A column `weight` multiplies the loss of its row.
        eval_dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or `dict` of them, *optional*):
            Rows of the same form to evaluate on, and to choose the best heads by.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The tokenizer. By default the one saved with a `model` that is named.
        compute_metrics (`Callable[[EvalPrediction], dict]`, *optional*):
            By default likelihood, calibration and correlations of each attribute.
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
            Trains an adapter instead of the backbone; the heads are always among `modules_to_save`.

    Raises:
        ValueError: ratings that cannot be read, with their row, or settings that exclude each other.
    """

    _tag_names = ["trl", "urm", "uncertainty", "reward-model"]
    _name = "URM attribute"
    id_columns = ("input_ids",)

    def __init__(
        self,
        model: ModelSource,
        args: URMAttributeConfig | None = None,
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
        args = args or URMAttributeConfig("urm-attributes")
        model, source = _read_source(model, args)
        if processing_class is None and source is not None:
            processing_class = load_tokenizer_of(source, args)
        keep_best = read_keep_best(args, eval_dataset, heads_alone=args.freeze_backbone)
        if keep_best and args.eval_strategy == IntervalStrategy.NO:
            args.eval_strategy = IntervalStrategy.EPOCH
        if peft_config is not None:
            peft_config = _add_head(peft_config, source, args)
        if args.freeze_backbone:
            refuse_streams([train_dataset, eval_dataset], "freeze_backbone=False")
            load_everywhere("freeze_backbone=True")
        model = load_urm(
            model,
            args,
            attributes=args.attributes,
            attribute_scales=args.attribute_scales,
            gating_hidden_size=args.gating_hidden_size,
            quantization_config=quantization_config,
        )
        name_base(model, source, frozen=args.freeze_backbone and not args.save_backbone)
        self._features: FeatureStore | None = None
        self._read: tuple[Dataset, RatedRows] | None = None
        self._read_training_data(model, args, train_dataset)
        self._seen: dict[str, Any] = {}
        self._noises: dict[int, int] = {}  # how many were drawn in the current step
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
            peft_config=peft_config,  # TRL need not quantize: the model is loaded already
        )
        fix_dates(self.processing_class)  # of a template that prints today's, before it is saved
        record_stage(self._urm_config, "attribute_stage", args, train_dataset, self._seen)
        self._settle_weights()
        self.compute_metrics = compute_metrics or self._attribute_metrics
        self.label_names = ["ratings"]
        if args.freeze_backbone:
            self._freeze(keep_best)
        if data_collator is None:
            self.data_collator = DataCollatorForRatings(self.processing_class.pad_token_id, self._features or {})
        self.settle_packing(in_the_way=_find_obstacle(args, data_collator))

    def _settle_weights(self):
        """What trains, in which precision, and what FSDP may share."""
        if self.is_fsdp_enabled:
            share_statistics(self.model)
        if self.model.score.gate is not None:
            self.model.score.gate.requires_grad_(False)  # not in this loss: DDP would wait for its gradients
        if not self.args.freeze_backbone:
            check_master_weights(self.model, self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _read_training_data(self, model, args, train_dataset):
        """What the config says of scales and labels, before TRL prepares the rows."""
        self._urm_config = config = model.config
        args.max_length = longest_for(config, args.max_length)
        _set_scales(config, args)
        self._fresh_head = config.attribute_loss is None
        self._measure_ratings(model, train_dataset, args)
        config.attribute_loss = args.loss_type
        model.score.drop_posterior()  # of former weights

    def _measure_ratings(self, model, dataset, args):
        """
        Reads all training ratings: errors come before any computing, label statistics go into the config.

        Not later, on the rows that TRL has prepared: by then an adapter has taken its copy of the head, and rows that
        are too long may be gone, whose ratings count for the units all the same.
        """
        config = self._urm_config
        n = len(config.attributes)
        self._ratings_per_row = np.ones(n)  # of a stream, which is not measured, each rating weighs 1
        if dataset is None or isinstance(dataset, IterableDataset):
            if args.standardize_labels and dataset is not None:
                raise ValueError(
                    "a streaming dataset cannot be measured in advance: set `standardize_labels=False`, or load it "
                    "whole."
                )
            return
        if set(dataset.column_names) >= ENCODED:
            ratings = ratings_array(dataset["ratings"])
        else:
            rated = read_rated_rows(dataset, config.attributes, config.attribute_scales, "train")
            self._read = (dataset, rated)
            ratings = rated.read_usable()
            check_all_rated(ratings, config.attributes, dataset)
        means, stds = rating_statistics(ratings, config.attributes)
        self._ratings_per_row = (~np.isnan(ratings)).sum((0, 2)) / len(ratings)
        untouched = config.label_means == [0.0] * n and config.label_stds == [1.0] * n
        if args.standardize_labels and untouched:  # the head of a trained URM keeps the units that it was trained in
            model.score.set_label_statistics(means, stds)

    def _freeze(self, keep_best: bool):
        """Only the value head trains; every dataset becomes indices into hidden states that are computed now."""
        # the value head only: the gate is not in this loss, and weight decay alone would move it
        train_only(self.model, self.model.score.value)
        if self.args.dry_run:
            return
        self._features = FeatureStore(self)
        index_datasets(self, self._features, ID_COLUMNS)
        if self.args.standardize_features and self._fresh_head:  # a trained head reads the features it was trained on
            hidden = torch.from_numpy(self._features["train"][:])
            if len(hidden) < FEWEST_ROWS:
                raise ValueError(
                    f"`standardize_features` needs {FEWEST_ROWS} different conversations to tell the spread of hidden "
                    f"states from, got {len(hidden)}: predictions for others would be wild. Train on more, or set "
                    "`standardize_features=False`."
                )
            self.model.score.standardize_features(hidden)
        # before the head trains, so that all checkpoints of the run hold one, and what cannot be fitted is told early
        fit_on_cached(self.model, self.train_dataset, self._features, asked=self.args.fit_posterior, trained=False)
        if keep_best:
            # these losses drive sigma to 0 (Eq. 9) or leave it alone: a likelihood would judge what they do not fit
            metric = "eval_mse" if self.args.loss_type in ("regression", "deterministic") else "eval_nll"
            keeper = KeepBestHead(
                self.model.score,
                metric,
                greater_is_better=False,
                patience=self.args.patience,
                burn_in_steps=self.args.burn_in_steps,
            )
            self.add_callback(keeper)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As in TRL. Then the posterior is fitted anew: now that sigma is trained, noisy rows count for less in it."""
        result = super().train(*args, **kwargs)
        if self._features is not None and self.model.score.has_posterior:
            fit_on_cached(self.model, self.train_dataset, self._features, asked=self.args.fit_posterior)
        return result

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        # `evaluate` calls it again, in some versions of TRL with datasets that went through here before
        columns = column_names(dataset)
        if "feature" in columns:
            return dataset
        if not set(columns) >= ENCODED:
            config = self._urm_config
            dataset = encode_dataset(
                dataset,
                encoder_for(config, processing_class, args),
                plan_rated_rows(list(config.attributes), config.attribute_scales, self._take_ratings(dataset)),
                name=dataset_name,
                on_error=args.on_error,
                folder=args.output_dir,
                num_proc=args.dataset_num_proc,
                seen=self._seen if dataset_name == "train" else None,
            )
        elif not isinstance(dataset, IterableDataset):
            # rows of one width: the largest number of annotators, so that batches can be gathered across processes
            padded = ratings_array(dataset["ratings"])
            dataset = dataset.remove_columns("ratings").add_column("ratings", list(padded.tolist()))
        return dataset if self._features is None else self._features.index(dataset, ID_COLUMNS, dataset_name)

    def _take_ratings(self, dataset: TrainDataset) -> RatedRows | None:
        """The ratings of a dataset: those that were measured, if it is the training set; None of a stream."""
        if isinstance(dataset, IterableDataset):
            return None
        measured, self._read = self._read, None  # let go: they are in the encoded rows from here on
        if measured is not None and measured[0] is dataset:
            return measured[1]
        return read_rated_rows(dataset, self._urm_config.attributes, self._urm_config.attribute_scales)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        # peft writes the adapter alone; without the URM's config nobody could tell which attributes it predicts
        if is_peft_model(self.model) and self.args.should_save:
            complete_adapter(output_dir or self.args.output_dir, self._urm_config)

    def _set_signature_columns_if_needed(self):
        # TRL's are those of pairs; what is not named here is removed before the collator sees it
        if self._signature_columns is None:
            self._signature_columns = ["input_ids", "feature", "feature_file", "ratings", "weight"]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        mode = "train" if self.model.training else "eval"
        ratings, weight = inputs["ratings"], inputs["weight"]  # (B, n, R), (B,)
        model_inputs = {name: tensor for name, tensor in inputs.items() if name not in ("ratings", "weight")}
        outputs = self.run_model(model, model_inputs)
        config, means, stds = self._urm_config, outputs.attribute_means, outputs.attribute_stds  # (B, n)

        # The model predicts on the rating scale, as its users read it. The loss is taken in units of the labels' std,
        # or an attribute rated from 0 to 100 would outweigh all others.
        label_means, label_stds = means.new_tensor(config.label_means), means.new_tensor(config.label_stds)  # (n,)
        mu, sigma = (means - label_means) / label_stds, stds / label_stds  # (B, n)
        s = (ratings - label_means[:, None]) / label_stds[:, None]  # (B, n, R)
        per_rating = self._compute_rating_losses(mu, sigma, s, mode)  # (B, n, R)
        # Divided by the mean number over the training set, not over this batch: an attribute that few rows have would
        # weigh more in batches with little of it, and the average over batches would not be that over ratings.
        ratings_per_row = means.new_tensor(self._ratings_per_row).clamp(min=1e-9)  # (n,)
        losses = (weight[:, None] * per_rating.sum(-1) / ratings_per_row).sum(-1)  # (B,)
        loss = self.mean_over_rows(losses, num_items_in_batch if self.weighs_rows and mode == "train" else None)

        if mode == "train":
            self._log_train_batch(sum_batch(stds.detach(), mu.detach(), sigma.detach(), s))
        if self._features is None:  # cached hidden states pass no token through the backbone
            self._count_tokens(mode, inputs)
        return (loss, {"attribute_means": means, "attribute_stds": stds}) if return_outputs else loss

    def count_batch_rows(self, inputs: dict[str, Any]) -> int:
        return len(inputs["ratings"])

    def _compute_rating_losses(self, mu: Tensor, sigma: Tensor, s: Tensor, mode: str) -> Tensor:
        """The loss of each rating (B, n, R), in units of the labels' std; the squared error while burning in."""
        args, config = self.args, self._urm_config
        if mode == "train" and self.state.global_step < args.burn_in_steps(self.state.max_steps):
            return squared_error(mu, s)
        scales, noise = None, None
        if args.loss_type == "censored_mle":
            units = (config.attributes, config.label_means, config.label_stds)
            scales = scales_tensor(config.attribute_scales, *units).to(mu.device)
        if args.loss_type == "regression":
            noise = self._draw_noise(mu)
        return attribute_loss(args.loss_type, mu, sigma, s, noise=noise, beta=args.beta, scales=scales)

    def _log_train_batch(self, sums: Tensor):
        """Likelihood and mean sigma, which tells early that it collapses or explodes."""
        gathered = self.accelerator.gather(sums[None]).sum(0)
        for name, value in average_sums(gathered).items():
            self._metrics["train"][name].append(value)

    def _count_tokens(self, mode: str, inputs: dict[str, Any]):
        if mode == "train":
            tokens = self.accelerator.gather_for_metrics(count_tokens(inputs)).sum().item()
            self._total_train_tokens += tokens // self._tp_size
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def _draw_noise(self, like: Tensor) -> Tensor:
        """Eq. 5's alpha: new in every micro-batch of every step on every process."""
        step = self.state.global_step
        number = self._noises.get(step, 0)
        self._noises = {step: number + 1}
        return draw_noise(like, self.args.seed, step, number, self.accelerator.process_index)

    def _attribute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        config, (means, stds) = self._urm_config, prediction.predictions
        return attribute_metrics(
            means,
            stds,
            prediction.label_ids,
            config.attributes,
            config.label_means,
            config.label_stds,
            config.attribute_scales,
        )


def _find_obstacle(args: URMAttributeConfig, data_collator) -> str | None:
    """What leaves packs no place."""
    if args.freeze_backbone:
        return "hidden states are computed once (`freeze_backbone`), and no token passes the backbone after that"
    return None if data_collator is None else "the `data_collator` that was passed makes the batches"


def _set_scales(config: URMConfig, args: Any):
    if args.attributes is not None and list(args.attributes) != config.attributes:
        raise ValueError(f"`attributes` asks for {args.attributes}, but the model predicts {config.attributes}.")
    if args.attribute_scales is not None:
        config.attribute_scales = check_scales(args.attribute_scales, config.attributes)
    if args.loss_type == "censored_mle" and set(config.attribute_scales or {}) != set(config.attributes):
        raise ValueError('`loss_type="censored_mle"` needs `attribute_scales` for every attribute.')


def _read_source(model: ModelSource, args: URMAttributeConfig) -> tuple[Any, MemberSource | None]:
    """A model by name, with its commit; an instance comes from nowhere."""
    if not isinstance(model, (str, os.PathLike)):
        return model, None
    name = os.fspath(model)
    return name, pin_source(name, args)


def _add_head(peft_config: Any, base: MemberSource | None, args: URMAttributeConfig) -> Any:
    """A copy that trains the heads too, and names the commit of the base, which may move on."""
    if args.freeze_backbone:
        raise ValueError("`freeze_backbone` and `peft_config` exclude each other: an adapter is to be trained.")
    # Without the heads among `modules_to_save`, an adapter would train on fresh heads, and save none of them.
    adapter = copy.copy(peft_config)
    adapter.modules_to_save = list(dict.fromkeys([*(adapter.modules_to_save or []), "score"]))
    if base is not None:
        adapter.revision = None if Path(base.name).is_dir() else base.revision
    return adapter
