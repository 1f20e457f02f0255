"""`urm train attributes` and `urm train gating`: the flags are those of the stage's TRL config."""

import sys
from dataclasses import dataclass, field

USAGE = """usage: urm train {attributes,gating} [--config FILE.yaml] [options]

  attributes  value head (and backbone) on rated conversations
  gating      gate on preference pairs, all else frozen

`urm train attributes --help` lists all options. Those of a --config file are overridden by flags."""


@dataclass
class DataArguments:
    """Model and data."""

    model_name_or_path: str = field(
        metadata={"help": "A URM, or a causal LM or scalar reward model that gets fresh heads: repository or folder."}
    )
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
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of a Hub dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a Hub dataset."})
    max_train_rows: int | None = field(default=None, metadata={"help": "Use this many rows, drawn with `seed`."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "The same for evaluation."})
    skip_unrated: bool = field(
        default=False, metadata={"help": "Leave rows without any rating out (and count them) instead of failing."}
    )
    dtype: str = field(default="float32", metadata={"help": "Of the backbone: float32, bfloat16, float16 or auto."})


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in ("attributes", "gating"):
        print(USAGE)
        return 0 if not argv or argv[0] in ("-h", "--help") else 2
    from trl import TrlParser

    from urm_hf.trainers import URMAttributeConfig, URMGatingConfig

    stage, config_class = argv[0], URMAttributeConfig if argv[0] == "attributes" else URMGatingConfig
    parser = TrlParser((DataArguments, config_class), prog=f"urm train {stage}")
    data, args = parser.parse_args_and_config(args=argv[1:])
    args.model_init_kwargs = {"dtype": data.dtype, **(args.model_init_kwargs or {})}
    return train(stage, data, args)


def train(stage: str, data: DataArguments, args) -> int:
    """Loads the data, trains the stage and saves model, tokenizer and code in `args.output_dir`."""
    from urm_hf.trainers import URMAttributeTrainer, URMGatingTrainer

    train_rows = _rows(data, args, data.dataset_name, data.train_split, data.max_train_rows, stage)
    eval_rows = None
    if data.eval_split is not None or data.eval_dataset_name is not None:
        name = data.eval_dataset_name or data.dataset_name
        eval_rows = _rows(data, args, name, data.eval_split, data.max_eval_rows, stage)
    trainer_class = URMAttributeTrainer if stage == "attributes" else URMGatingTrainer
    trainer = trainer_class(data.model_name_or_path, args, train_dataset=train_rows, eval_dataset=eval_rows)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    if eval_rows is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.save_model(args.output_dir)
    trainer.save_state()
    if args.push_to_hub:
        trainer.push_to_hub()
    print(f"Saved to {args.output_dir}")
    return 0


def _rows(data: DataArguments, args, name: str, split: str | None, limit: int | None, stage: str):
    from urm_hf.data import load_rows

    rows = load_rows(name, split, data.dataset_config, data.dataset_revision)
    if stage == "attributes" and data.skip_unrated:
        from urm_hf.modeling import HELPSTEER2_ATTRIBUTES

        attributes = args.attributes or HELPSTEER2_ATTRIBUTES
        rated = [number for number, row in enumerate(rows) if _is_rated(row, attributes)]
        if len(rated) < len(rows):
            print(f"{name}: left out {len(rows) - len(rated)} of {len(rows)} rows without a rating.", file=sys.stderr)
            rows = rows.select(rated)
    if limit is not None and limit < len(rows):
        rows = rows.shuffle(seed=args.seed).select(range(limit))
    return rows


def _is_rated(row: dict, attributes: list[str]) -> bool:
    source = row["ratings"] if isinstance(row.get("ratings"), dict) else row
    return any(source.get(attribute) not in (None, []) for attribute in attributes)
