"""A training run from files: load the data, train a stage, save what any tool can load. Behind `urm train`."""

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import is_peft_model
from datasets import Dataset
from trl import ModelConfig, get_peft_config, get_quantization_config

from urm_hf.checkpoints.adapters import save_adapter_with_head
from urm_hf.data.canonical import read_dataset
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.formats.reading import format_named
from urm_hf.data.ratings import is_rated
from urm_hf.data.tables import from_ultrafeedback, load_rows
from urm_hf.hub.publish import push
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMEnsemble
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.modeling.tokenizer_urm import load_tokenizer, save_tokenizer
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer
from urm_hf.trainers.loading import pinned_source
from urm_hf.trainers.resuming import find_checkpoint

logger = logging.getLogger(__name__)


@dataclass
class DataArguments:
    """Which rows to train and evaluate on."""

    dataset_name: str = field(
        metadata={"help": "File (.jsonl, .jsonl.gz, .parquet, .csv) or Hub dataset with the training rows."}
    )
    train_split: str = field(
        default="train", metadata={"help": "Split of a Hub dataset, or value in a file's column `split`."}
    )
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on while training. Default: no evaluation."}
    )
    eval_dataset_name: str | None = field(default=None, metadata={"help": "Default: the training dataset."})
    eval_rows_held_out: int = field(
        default=0, metadata={"help": "Hold out this many training rows, drawn with `data_seed` 0, to evaluate on."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of a Hub dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a Hub dataset."})
    max_train_rows: int | None = field(default=None, metadata={"help": "Use this many rows, drawn with `seed`."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "The same for evaluation."})
    train_fraction: float = field(
        default=1.0,
        metadata={
            "help": "Train on this share of the rows, drawn with `seed`: gives members of an ensemble on one frozen "
            "backbone something to disagree about."
        },
    )
    format: str | None = field(
        default=None,
        metadata={"help": "Format of the rows, by name (docs/data.md). Default: what their columns tell."},
    )
    ignore_columns: list[str] | None = field(default=None, metadata={"help": "Columns that are not looked at."})
    data_format: str = field(
        default="rows",
        metadata={"help": "Former name of `format`: 'rows', or 'ultrafeedback' without its empty rows."},
    )
    skip_unrated: bool = field(
        default=False, metadata={"help": "Leave rows without any rating out (and count them) instead of failing."}
    )
    save_adapter: bool = field(
        default=False,
        metadata={
            "help": "With --use_peft: save adapter and head instead of merging them into the base, so that members of "
            "an ensemble can share it. The gating stage on an adapter gives an adapter again."
        },
    )
    plots: bool = field(default=False, metadata={"help": "Draw loss, metrics and sigma over time: training.png."})

    def __post_init__(self):
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"`train_fraction` must be above 0 and at most 1, got {self.train_fraction}.")
        if self.data_format not in ("rows", "ultrafeedback"):
            raise ValueError(f"`data_format` must be 'rows' or 'ultrafeedback', got {self.data_format!r}.")
        if self.format is not None:
            format_named(self.format)
        if self.plots:
            import matplotlib  # noqa: F401  (an error now, not after the training)


def train_attributes(data: DataArguments, args: URMAttributeConfig, model: ModelConfig) -> Path:
    """Stage 1. With LoRA flags (`--use_peft`) the adapter is merged, unless it is quantised or `--save_adapter`."""
    if data.save_adapter and not model.use_peft:
        raise ValueError("`--save_adapter` needs an adapter: add `--use_peft`.")
    if data.save_adapter and args.push_to_hub:
        _check_base_to_push(_name(model))
    train, held_out = load_splits(data, args.seed, args.attributes or HELPSTEER2_ATTRIBUTES)
    model.lora_task_type = "SEQ_CLS"
    trainer = URMAttributeTrainer(
        _name(model),
        _with_model(args, model),
        train_dataset=train,
        eval_dataset=held_out,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    return _run(trainer, args, data)


def train_gating(data: DataArguments, args: URMGatingConfig, model: ModelConfig) -> Path:
    """Stage 2; with `reward_weights` there is nothing to train and they are written into the model."""
    if args.reward_weights is not None:
        return _fixed_weights(args, model)
    train, held_out = load_splits(data, args.seed)
    source = pinned_source(_name(model), _with_model(args, model))
    base = source.base()
    if base is not None and args.push_to_hub:
        _check_base_to_push(base.name)
    trainer = URMGatingTrainer(_name(model), args, train_dataset=train, eval_dataset=held_out)
    path = _run(trainer, args, data, None if base is None else source)
    print("Gate: weight of each attribute, mean and standard deviation over conversations")
    for attribute, (mean, std) in trainer.gate_report().items():
        print(f"  {attribute:<16} {mean:+.3f} ± {std:.3f}")
    return path


def train_members(stages: list, members: int, output_dir: str | Path) -> Path:
    """
    An ensemble: each member runs all stages with a seed of its own (head initialisation, batch order, drawn rows).

    Args:
        stages: (function, data, args, model) of one or two stages, as [`train_attributes`] and [`train_gating`] take.
        members: how many, at least two.

    Returns:
        The folder of the ensemble, which names its members and holds no weights.

    Raises:
        ValueError: fewer than two members, or two that ended with equal heads.
    """
    if members < 2:
        raise ValueError(f"an ensemble needs at least two members, got {members}.")
    _check_one_precision(stages)
    output_dir = Path(output_dir)
    paths: list[str] = []
    for member in range(members):
        previous = None
        for number, (function, data, args, model) in enumerate(stages):
            args, model = copy.deepcopy(args), copy.deepcopy(model)
            args.seed += member
            args.data_seed = args.seed
            last = number == len(stages) - 1
            args.output_dir = str(
                output_dir / f"member-{member}" if last else output_dir / f"member-{member}-attributes"
            )
            model.model_name_or_path = previous or model.model_name_or_path
            print(f"Member {member}, stage {number + 1} of {len(stages)}, seed {args.seed}")
            previous = str(function(data, args, model))
        paths.append(str(previous))
    ensemble = URMEnsemble.from_pretrained(paths, strategy="sequential")  # loads none; refuses equal heads
    _, data, args, _ = stages[0]
    ensemble.config.strategy = "shared" if data.save_adapter or args.freeze_backbone else "resident"
    ensemble.save_pretrained(output_dir / "ensemble")
    return output_dir / "ensemble"


def _check_one_precision(stages: list):
    """accelerate keeps one precision for a whole process: a second stage with another would fail at its start."""
    found = {"bf16" if args.bf16 else "fp16" if args.fp16 else "float32" for _, _, args, _ in stages}
    if len(found) > 1:
        raise ValueError(
            f"the stages ask for different precisions ({', '.join(sorted(found))}): set `bf16` (and `fp16`) alike in "
            "both config files. The gating stage computes its hidden states under the same autocast."
        )


def load_splits(data: DataArguments, seed: int, rated: list[str] | None = None) -> tuple[Dataset, Dataset | None]:
    """Training and evaluation rows; with `rated`, those with a rating of one of these attributes."""
    train = _load(data, data.dataset_name, data.train_split, rated)
    held_out = None
    if data.eval_split is not None or data.eval_dataset_name is not None:
        held_out = _load(data, data.eval_dataset_name or data.dataset_name, data.eval_split, rated)
    elif data.eval_rows_held_out:
        if data.eval_rows_held_out >= len(train):
            raise ValueError(f"`eval_rows_held_out` is {data.eval_rows_held_out} of only {len(train)} rows.")
        parts = train.train_test_split(test_size=data.eval_rows_held_out, seed=0)  # the same for every member
        train, held_out = parts["train"], parts["test"]
    rows = min(round(len(train) * data.train_fraction), data.max_train_rows or len(train))
    if rows < len(train):
        train = train.shuffle(seed=seed).select(range(rows))
    if held_out is not None and data.max_eval_rows is not None and data.max_eval_rows < len(held_out):
        held_out = held_out.shuffle(seed=0).select(range(data.max_eval_rows))
    return train, held_out


def _load(data: DataArguments, name: str, split: str | None, rated: list[str] | None) -> Dataset:
    rows = load_rows(name, split, data.dataset_config, data.dataset_revision)
    if data.data_format == "ultrafeedback":
        rows = from_ultrafeedback(rows)
    else:
        expand = rank_pairs if rated is None else split_candidates
        rows = read_dataset(rows, expand, format=data.format, ignore=data.ignore_columns or (), name=name)
    if rated is None or not data.skip_unrated:
        return rows
    kept = [number for number, row in enumerate(rows) if is_rated(row, rated)]
    if len(kept) < len(rows):
        logger.warning("%s: left out %d of %d rows without a rating.", name, len(rows) - len(kept), len(rows))
    return rows.select(kept)


def _run(trainer, args, data: DataArguments, adapter: MemberSource | None = None) -> Path:
    """Trains, evaluates and saves: the model, the adapter that it is, or a copy of `adapter` with its new head."""
    trainer.train(resume_from_checkpoint=find_checkpoint(args.output_dir, args.resume_from_checkpoint))
    if trainer.eval_dataset is not None:
        metrics = trainer.evaluate()
        if hasattr(trainer.eval_dataset, "num_rows"):
            metrics["eval_samples"] = trainer.eval_dataset.num_rows
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.save_state()
    quantised = any(getattr(module, "is_quantized", False) for module in trainer.model.modules())  # or its backbone
    merged = is_peft_model(trainer.model) and not quantised and not data.save_adapter
    if adapter is not None:
        if trainer.is_world_process_zero():
            save_adapter_with_head(adapter.name, trainer.model, args.output_dir, **adapter.place.kwargs())
            save_tokenizer(trainer.processing_class, args.output_dir)
    elif merged and trainer.is_world_process_zero():
        trainer.model.merge_and_unload().save_pretrained(args.output_dir)
        save_tokenizer(trainer.processing_class, args.output_dir)
    elif not merged:
        trainer.save_model(args.output_dir, _internal_call=True)  # else it would push as well
    if data.plots and trainer.is_world_process_zero():
        from urm_hf.trainers.plot import plot_training

        print(f"Plot: {plot_training(trainer.state.log_history, Path(args.output_dir) / 'training.png')}")
    as_saved = merged or adapter is not None
    if args.push_to_hub and as_saved and trainer.is_world_process_zero():
        push(args.output_dir, trainer.hub_model_id, private=None, revision=args.hub_revision, token=args.hub_token)
    elif args.push_to_hub and not as_saved:
        trainer.push_to_hub()
    return Path(args.output_dir)


def _fixed_weights(args: URMGatingConfig, model: ModelConfig) -> Path:

    from urm_hf.modeling import URMForRewardModeling

    urm = URMForRewardModeling.from_pretrained(_name(model), revision=model.model_revision, dtype="auto")
    urm.fix_reward_weights(args.reward_weights or [])
    urm.save_pretrained(args.output_dir)
    tokenizer = load_tokenizer(_name(model), revision=model.model_revision)
    save_tokenizer(tokenizer, args.output_dir)
    return Path(args.output_dir)


def _check_base_to_push(base: str):
    if Path(base).is_dir():
        raise ValueError(
            f"`--push_to_hub` of an adapter: its base {base} is a local folder, which nobody else can load. Push the "
            "base first and train on its repository, or leave out `--push_to_hub`."
        )


def _name(model: ModelConfig) -> str:
    if not model.model_name_or_path:
        raise ValueError("`--model_name_or_path` is missing: a URM, a causal LM or a scalar reward model.")
    return model.model_name_or_path


def _with_model(args, model: ModelConfig):
    """TRL's model flags as keyword arguments for loading."""
    flags = {"dtype": model.dtype, "revision": model.model_revision, "attn_implementation": model.attn_implementation}
    args.model_init_kwargs = {**{k: v for k, v in flags.items() if v is not None}, **(args.model_init_kwargs or {})}
    return args
