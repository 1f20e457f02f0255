"""Arguments of a training run from files that are no settings of a trainer: which rows, and what to save."""

from dataclasses import dataclass, field

from urm_hf.data.formats.reading import format_named


@dataclass
class DataArguments:
    """
    Which rows to train and evaluate on, and what to save beside the model.

    Args:
        dataset_name (`str`):
            File (.jsonl, .jsonl.gz, .parquet, .csv) or Hub dataset with the training rows.
        train_split (`str`, *optional*, defaults to `"train"`):
            Split of a Hub dataset, or value in a file's column `split`.
        eval_split (`str`, *optional*):
            Split to evaluate on while training. By default there is no evaluation.
        eval_dataset_name (`str`, *optional*):
            Where that split is. By default the training dataset.
        eval_rows_held_out (`int`, *optional*, defaults to `0`):
            Number of training rows that are held out to evaluate on, whole prompts, drawn with seed 0 whatever the
            run's is.
        dataset_config (`str`, *optional*):
            Configuration name of a Hub dataset.
        dataset_revision (`str`, *optional*):
            Commit, branch or tag of a Hub dataset.
        max_train_rows (`int`, *optional*):
            Number of rows to train on, drawn with `seed`. By default all.
        max_eval_rows (`int`, *optional*):
            Number of rows to evaluate on. By default all.
        train_fraction (`float`, *optional*, defaults to `1.0`):
            Share of the rows to train on, drawn with `seed`, above 0 and at most 1.
        format (`str`, *optional*):
            Name of the rows' format (docs/data.md). By default what their columns tell.
        ignore_columns (`list[str]`, *optional*):
            Columns that are not looked at.
        data_format (`str`, *optional*, defaults to `"rows"`):
            Former name of `format`: "rows", or "ultrafeedback" without its empty rows.
        skip_unrated (`bool`, *optional*, defaults to `False`):
            Whether rows without any rating are left out and counted. By default they are an error.
        save_adapter (`bool`, *optional*, defaults to `False`):
            With `use_peft`: whether adapter and head are saved instead of merged into the base.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether a finished model in the output folder may be replaced. By default that is an error.
        plots (`bool`, *optional*, defaults to `False`):
            Whether loss, metrics and sigma over time are drawn as training.png.

    Raises:
        ValueError: a share outside its range, or a format that nobody knows.
    """

    dataset_name: str = field(
        metadata={"help": "File (.jsonl, .jsonl.gz, .parquet, .csv) or Hub dataset with the training rows."}
    )
    train_split: str = field(
        default="train", metadata={"help": "Split of a Hub dataset, or value in a file's column `split`."}
    )
    eval_split: str | None = field(
        default=None, metadata={"help": "Split to evaluate on while training. Default: no evaluation."}
    )
    eval_dataset_name: str | None = field(
        default=None, metadata={"help": "Where the split to evaluate on is. The default is the training dataset."}
    )
    eval_rows_held_out: int = field(
        default=0,
        metadata={"help": "Hold out this many training rows, whole prompts, to evaluate on: the same for any seed."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of a Hub dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a Hub dataset."})
    max_train_rows: int | None = field(default=None, metadata={"help": "Use this many rows, drawn with `seed`."})
    max_eval_rows: int | None = field(default=None, metadata={"help": "Use this many rows to evaluate on."})
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
    overwrite: bool = field(
        default=False, metadata={"help": "Replace a finished model in the output folder. By default it is an error."}
    )
    plots: bool = field(default=False, metadata={"help": "Draw loss, metrics and sigma over time: training.png."})

    def __post_init__(self):
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"`train_fraction` must be above 0 and at most 1, got {self.train_fraction}.")
        for name in ("max_train_rows", "max_eval_rows"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"`{name}` must be positive, got {count}; leave it out to use all rows.")
        if self.eval_rows_held_out < 0:
            raise ValueError(f"`eval_rows_held_out` must not be negative, got {self.eval_rows_held_out}.")
        if self.data_format not in ("rows", "ultrafeedback"):
            raise ValueError(f"`data_format` must be 'rows' or 'ultrafeedback', got {self.data_format!r}.")
        if self.format is not None:
            format_named(self.format)
        if self.plots:
            # an error now, not after hours of training
            import matplotlib  # noqa: F401
