"""Arguments of the two training stages: TRL's `RewardConfig` with what URM adds and other defaults."""

import inspect
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from trl import RewardConfig

from urm_hf.data.conversations import check_truncation
from urm_hf.data.encoder import LONGEST
from urm_hf.trainers.encoding import ON_ERROR
from urm_hf.trainers.losses import LOSS_TYPES
from urm_hf.trainers.packing import PackingConfig

# of the gating stage: the paper's 4000 steps of 256 pairs are so many passes over 160,000
GATING_STEPS, GATING_EPOCHS = 4000, 6.4
TRACKERS = ("trackio", "wandb", "mlflow", "comet_ml", "swanlab", "clearml")  # packages of the same name

Config = TypeVar("Config", bound=type)


def explain_inherited(config: Config) -> Config:
    """
    Adds to a config's docstring what its parents' say of their arguments, for `help(config)` to explain all of ours.

    Args:
        config (`type`): a class, for which this is a decorator.
    """
    told = inspect.cleandoc(config.__doc__ or "")
    for parent in config.__mro__[1:]:
        own = parent.__dict__.get("__doc__") or ""
        arguments = re.search(r"^Args:\n((?: +.*\n?)+)", inspect.cleandoc(own), re.MULTILINE)
        if parent.__module__.startswith(__name__.split(".")[0]) and arguments is not None:
            told += f"\n\n> From [`{parent.__name__}`]\n\n{arguments[1].rstrip()}"
    config.__doc__ = told
    return config


@dataclass
class RowsConfig(PackingConfig):
    """
    Arguments of all trainers: how rows are read, and how they become batches ([`PackingConfig`]). TRL's defaults hold
    unless a field says otherwise; bf16 is off where there is no GPU.

    Args:
        max_length (`int`, *optional*, defaults to `4096`):
            Longest conversation in tokens; `truncation` says what happens beyond. The default is lowered to the
            positions of a model that has fewer.
        truncation (`str`, *optional*, defaults to `"error"`):
            What happens to a longer one: "error", "left" (keep the end), "right" (keep the beginning) or "drop". What
            was cut or dropped is counted and logged.
        on_error (`str`, *optional*, defaults to `"raise"`):
            What happens to rows that cannot be used: "raise" names them all, "skip" leaves them out, counts them and
            writes them to `<output_dir>/train.skipped.jsonl`.
        dry_run (`bool`, *optional*, defaults to `False`):
            Prepares everything but hidden states, and refuses what cannot work. `urm train` then tells what would
            train, for how long and in how much memory, and stops.

    All other arguments are those of [`~trl.RewardConfig`] and [`~transformers.TrainingArguments`].
    """

    max_length: int | None = field(
        default=LONGEST,
        metadata={
            "help": "Longest conversation in tokens; `truncation` says what happens beyond. The default of 4096 is "
            "lowered to the positions of a model that has fewer."
        },
    )
    truncation: str = field(
        default="error",
        metadata={
            "help": "What to do with conversations longer than `max_length`: 'error' (default), 'left' (keep the "
            "end), 'right' (keep the beginning) or 'drop'. What was cut or dropped is counted and logged."
        },
    )
    on_error: str = field(
        default="raise",
        metadata={
            "help": "What to do with rows that cannot be used: 'raise' (default) names them all, 'skip' leaves them "
            "out, counts them and writes them to `<output_dir>/train.skipped.jsonl`."
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Tell what would train, for how long and in how much memory, and train nothing."},
    )

    def __post_init__(self):
        check_truncation(self.truncation)
        if self.on_error not in ON_ERROR:
            raise ValueError(f"`on_error` must be one of {', '.join(ON_ERROR)}, got {self.on_error!r}.")
        if self.bf16 is None and not torch.cuda.is_available():
            self.bf16 = False
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # PyTorch warns where there is nothing to pin memory for
        self._rename_checkpointing()
        super().__post_init__()
        if self.max_steps <= 0 and not self.num_train_epochs > 0:
            raise ValueError(
                f"`num_train_epochs` must be above 0, got {self.num_train_epochs:g}: nothing would be trained."
            )
        for name in self.report_to or ():
            if name in TRACKERS and find_spec(name) is None:  # else a traceback, once all is loaded
                raise ValueError(
                    f"`report_to` names {name}, which is not installed: `pip install {name}`, or leave it out "
                    "(`--report_to none`)."
                )

    def _rename_checkpointing(self):
        """
        Says `gradient_checkpointing`, which TRL's defaults set, under the name that transformers 5.23 gave it, which
        warns of the former one. Can go when TRL says the new one.
        """
        for suffix in ("", "_kwargs"):
            former = getattr(self, f"gradient_checkpointing{suffix}")
            if former is not None and getattr(self, f"activation_checkpointing{suffix}", False) is None:
                setattr(self, f"activation_checkpointing{suffix}", former)


@dataclass
class URMTrainingConfig(RowsConfig):
    """
    Arguments of the attribute stage and the gating stage.

    Args:
        cache_dir (`str`, *optional*):
            Folder for cached hidden states. By default `features` in `$URM_CACHE`, in `$HF_HOME/urm-hf`, or in
            `~/.cache/urm-hf`: the first that is set. `urm cache` lists it.
        max_tokens_per_batch (`int`, *optional*, defaults to `4096`):
            Padded tokens of a batch while hidden states are computed for the cache.
        keep_best (`bool`, *optional*):
            If only heads train and there is one eval dataset: evaluate, and end with the heads that did best there. By
            default so; `False` ends with the last heads.
        patience (`int`, *optional*):
            With `keep_best`: stop after so many evaluations without improvement. By default never.
        save_total_limit (`int`, *optional*, defaults to `1`):
            How many checkpoints are kept, the newest ones.
        save_backbone (`bool`, *optional*, defaults to `False`):
            Whether a backbone that stays frozen is saved with the heads. By default they are saved alone, and name it:
            its repository and commit, or its folder.

    All other arguments are those of [`RowsConfig`].
    """

    cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder for cached hidden states. By default that of `urm cache`."},
    )
    max_tokens_per_batch: int = field(
        default=4096, metadata={"help": "Padded tokens of a batch while hidden states are computed for the cache."}
    )
    keep_best: bool | None = field(
        default=None,
        metadata={
            "help": "If only heads train and there is one eval dataset: evaluate (every epoch, or as `eval_strategy` "
            "says) and end with the heads that did best there. Default: true."
        },
    )
    patience: int | None = field(
        default=None, metadata={"help": "With `keep_best`: stop after so many evaluations without improvement."}
    )
    save_total_limit: int | None = field(
        default=1, metadata={"help": "How many checkpoints are kept, the newest ones."}
    )
    save_backbone: bool = field(
        default=False,
        metadata={
            "help": "Save a backbone that stays frozen with the heads. By default they are saved alone, and name it: "
            "its repository and commit, or its folder."
        },
    )


@explain_inherited
@dataclass
class URMAttributeConfig(URMTrainingConfig):
    """
    Arguments of [`URMAttributeTrainer`].

    Four defaults depend on `freeze_backbone`: learning rate 2e-6, weight decay 1e-3, 1 epoch and batch size 8 for a
    backbone that trains (the paper's, but for its global batch of 64); 1e-3, 10, 20 and 64 for heads on a frozen one.

    > The attribute stage

        learning_rate (`float`, *optional*):
            Learning rate. By default 2e-6; with `freeze_backbone` 1e-3.
        weight_decay (`float`, *optional*):
            Weight decay. By default 1e-3; with `freeze_backbone` 10.
        num_train_epochs (`float`, *optional*):
            Passes over the ratings. By default 1; with `freeze_backbone` 20.
        per_device_train_batch_size (`int`, *optional*):
            Conversations in a batch of one device. By default 8; with `freeze_backbone` 64.
        attributes (`list[str]`, *optional*):
            Rating columns, in the order of the head. By default those of HelpSteer2; `urm train attributes` takes
            your columns of numbers where not all of these are there.
        attribute_scales (`dict[str, list[float]]`, *optional*):
            `{attribute: [min, max]}` or `[min, max, step]`, in the unit of the ratings. Ratings outside are an error.
        gating_hidden_size (`int`, *optional*):
            Width of the gating MLP. By default the backbone's hidden size.
        loss_type (`str`, *optional*, defaults to `"mle"`):
            "mle" (Eq. 4), "regression" (Eq. 5), "deterministic" (the paper's ablation), "beta_nll" (Seitzer et al.,
            2022) or "censored_mle", which needs `attribute_scales`.
        beta (`float`, *optional*, defaults to `0.5`):
            The beta of "beta_nll", between 0 (the likelihood) and 1 (the gradient of a squared error).
        burn_in (`float`, *optional*, defaults to `0.0`):
            Squared error before the loss proper: a number of steps, or a fraction of them below 1.
        standardize_labels (`bool`, *optional*, defaults to `True`):
            Whether the head predicts in units of mean and std of all training ratings.
        freeze_backbone (`bool`, *optional*, defaults to `False`):
            Whether the value head alone trains, on hidden states that are computed once and cached.
        standardize_features (`bool`, *optional*, defaults to `True`):
            With `freeze_backbone`: whether the head reads standardized hidden states.
        fit_posterior (`bool`, *optional*):
            Whether the head gets a posterior over its means, from the hidden states of the training rows, so that the
            model tells what it does not know (`epistemic`). By default with `freeze_backbone`, where these are known
            before the head trains and it takes seconds.

    Further arguments are those of both stages ([`URMTrainingConfig`]), of [`~trl.RewardConfig`] and of
    [`~transformers.TrainingArguments`].
    """

    _VALID_DICT_FIELDS = RewardConfig._VALID_DICT_FIELDS + ["attribute_scales"]

    learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the optimizer. The default is 2e-6; with `freeze_backbone` 1e-3."},
    )
    weight_decay: float | None = field(
        default=None,
        metadata={"help": "Weight decay of the optimizer. The default is 1e-3; with `freeze_backbone` 10."},
    )
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "Passes over the ratings. The default is 1; with `freeze_backbone` 20."}
    )
    per_device_train_batch_size: int | None = field(
        default=None,
        metadata={"help": "Conversations in a batch of one device. The default is 8; with `freeze_backbone` 64."},
    )
    attributes: list[str] | None = field(
        default=None,
        metadata={
            "help": "Rating columns, in the order of the head. Default: HelpSteer2's, else your columns of numbers."
        },
    )
    attribute_scales: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "JSON: {attribute: [min, max]} or [min, max, step]. Ratings outside are an error."},
    )
    gating_hidden_size: int | None = field(
        default=None, metadata={"help": "Width of the gating MLP. Default: the backbone's hidden size."}
    )
    loss_type: str = field(
        default="mle",
        metadata={
            "help": "'mle' (Eq. 4), 'regression' (Eq. 5), 'deterministic' (the paper's ablation), 'beta_nll' or "
            "'censored_mle' (needs `attribute_scales`)."
        },
    )
    beta: float = field(default=0.5, metadata={"help": "The beta of 'beta_nll'."})
    burn_in: float = field(
        default=0.0,
        metadata={"help": "Squared error before the loss proper: a number of steps, or a fraction of them below 1."},
    )
    standardize_labels: bool = field(
        default=True,
        metadata={"help": "The head predicts in units of mean and std of all training ratings, also of dropped rows."},
    )
    freeze_backbone: bool = field(
        default=False,
        metadata={"help": "Train the value head only, on hidden states that are computed once and cached."},
    )
    standardize_features: bool = field(
        default=True, metadata={"help": "With `freeze_backbone`: the head reads standardised hidden states."}
    )
    fit_posterior: bool | None = field(
        default=None,
        metadata={
            "help": "Fit a posterior over the head's means, which tells what the model does not know. "
            "Default: with `freeze_backbone`. Else use `urm posterior` afterwards."
        },
    )

    def __post_init__(self):
        if self.fit_posterior and not self.freeze_backbone:
            raise ValueError(
                "`fit_posterior=True` needs hidden states that stay as they are, as with `freeze_backbone=True`. Fit "
                "it afterwards: `urm posterior MODEL --data RATINGS --out DIR`."
            )
        # A head alone starts from nothing and needs a higher rate. It has as many features as the backbone has
        # dimensions, and without a strong decay it would fit the noise of a few thousand rows.
        full, frozen = (2e-6, 1e-3, 1.0, 8), (1e-3, 10.0, 20.0, 64)
        names = ("learning_rate", "weight_decay", "num_train_epochs", "per_device_train_batch_size")
        for name, value in zip(names, frozen if self.freeze_backbone else full, strict=True):
            if getattr(self, name) is None:
                setattr(self, name, value)
        if self.freeze_backbone:
            self.gradient_checkpointing = False
            if hasattr(self, "activation_checkpointing"):  # its new name, in transformers 5.23
                self.activation_checkpointing = False
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"`loss_type` must be one of {', '.join(LOSS_TYPES)}, got {self.loss_type!r}.")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"`beta` must be between 0 and 1, got {self.beta}.")
        if self.burn_in < 0:
            raise ValueError(f"`burn_in` must be a number of steps or a fraction below 1, got {self.burn_in}.")
        super().__post_init__()

    def burn_in_steps(self, max_steps: int) -> int:
        """How many of a run's steps take the squared error."""
        return round(self.burn_in * max_steps) if self.burn_in < 1 else int(self.burn_in)


@explain_inherited
@dataclass
class URMGatingConfig(URMTrainingConfig):
    """
    Arguments of [`URMGatingTrainer`]. The batch size is the paper's 256, and so is the number of epochs for 160,000
    pairs, where they make its 4000 steps: few pairs get few steps, or the gate would learn them by heart.

    > The gating stage

        learning_rate (`float`, *optional*, defaults to `1e-4`):
            Learning rate of the gate.
        weight_decay (`float`, *optional*, defaults to `0.01`):
            Weight decay of the gate.
        num_train_epochs (`float`, *optional*):
            Passes over the pairs. By default 6.4.
        max_steps (`int`, *optional*):
            Optimization steps, in place of `num_train_epochs`. By default 4000 of a stream, whose length is not known.
        per_device_train_batch_size (`int`, *optional*, defaults to `256`):
            Pairs in a batch of one device.
        per_device_eval_batch_size (`int`, *optional*, defaults to `256`):
            Pairs in an evaluation batch.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`):
            Trades time for memory in the backbone; a frozen one needs none.
        reward_weights (`list[float]`, *optional*):
            Weighs the attributes by these fixed numbers instead of training a gate.
        cache_features (`bool`, *optional*, defaults to `True`):
            Whether each conversation's hidden state is computed once and kept on disk, to train on these.

    Further arguments are those of both stages ([`URMTrainingConfig`]), of [`~trl.RewardConfig`] and of
    [`~transformers.TrainingArguments`].
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the gate."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of the gate."})
    num_train_epochs: float | None = field(
        default=None, metadata={"help": "Passes over the pairs. Default: 6.4, the paper's number for 160,000 pairs."}
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "Optimisation steps, in place of `num_train_epochs`."}
    )
    per_device_train_batch_size: int = field(default=256, metadata={"help": "Pairs in a batch of one device."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Pairs in an evaluation batch."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "The frozen backbone needs none."})
    reward_weights: list[float] | None = field(
        default=None,
        metadata={"help": "Weigh the attributes by these fixed numbers instead of training a gate."},
    )
    cache_features: bool = field(
        default=True,
        metadata={"help": "Compute each conversation's hidden state once, keep it on disk, and train on these."},
    )

    def __post_init__(self):
        steps = self.max_steps is not None and self.max_steps > 0
        if steps and self.num_train_epochs is not None:
            raise ValueError(
                f"`max_steps={self.max_steps}` and `num_train_epochs={self.num_train_epochs:g}` both say how long to "
                "train: leave one out."
            )
        self.length_is_given = steps or self.num_train_epochs is not None
        if not steps:
            self.max_steps = -1  # transformers' way to say that epochs count
        if self.num_train_epochs is None:
            self.num_train_epochs = GATING_EPOCHS
        super().__post_init__()


@explain_inherited
@dataclass
class URMRewardConfig(RowsConfig):
    """
    Arguments of [`URMRewardTrainer`]: those of [`~trl.RewardConfig`] with its defaults, those of how rows are read
    ([`RowsConfig`]) and of packs ([`PackingConfig`]).
    """
