"""The rows that a training run learns from and is evaluated on, as its `DataArguments` name them."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from urm_hf.data.canonical import read_dataset
from urm_hf.data.conversation_keys import key_of_prompt
from urm_hf.data.conversations import read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.outputs import json_lines
from urm_hf.data.ratings import is_rated
from urm_hf.data.tables import from_ultrafeedback, load_rows
from urm_hf.trainers.data_arguments import DataArguments

logger = logging.getLogger(__name__)


def load_splits(
    data: DataArguments, seed: int, rated: list[str] | None = None, skipped_to: str | None = None
) -> tuple[Dataset, Dataset | None]:
    """
    Training and evaluation rows.

    Args:
        data (`DataArguments`): which rows.
        seed (`int`): of the draw of training rows, where not all of them are used.
        rated (`list[str]`, *optional*): attributes of the attribute stage: rows then hold one rated conversation each,
            and with `skip_unrated` those without a rating of any of these are left out. By default rows hold pairs.
        skipped_to (`str`, *optional*): a folder: what holds no row is left out and told in a file there
            (`train.unreadable.jsonl`). By default it is an error.

    Returns:
        The training rows, and the evaluation rows or None.

    Raises:
        ValueError: data that cannot be read, or more rows to hold out than there are.
    """
    return load_splits_of_seeds(data, [seed], rated, skipped_to)


def load_splits_of_seeds(
    data: DataArguments, seeds: Sequence[int], rated: list[str] | None = None, skipped_to: str | None = None
) -> tuple[Dataset, Dataset | None]:
    """
    As [`load_splits`], with the training rows that runs of several seeds draw: each once.

    Args:
        seeds (`list[int]`): of the runs. data, rated, skipped_to: as of [`load_splits`].
    """
    train = _load(data, data.dataset_name, data.train_split, rated, _side_file(skipped_to, "train"))
    train, held_out = _hold_out(data, train, rated, _side_file(skipped_to, "eval"))
    count = min(round(len(train) * data.train_fraction), data.max_train_rows or len(train))
    if count < len(train):
        places = Dataset.from_dict({"place": range(len(train))})  # drawn as the rows themselves would be
        draws = [places.shuffle(seed=seed)["place"][:count] for seed in seeds]
        train = train.select(list(dict.fromkeys(place for draw in draws for place in draw)))
    if held_out is not None and data.max_eval_rows is not None and data.max_eval_rows < len(held_out):
        held_out = held_out.shuffle(seed=0).select(range(data.max_eval_rows))
    return train, held_out


def _side_file(folder: str | None, part: str) -> Path | None:
    return None if folder is None else Path(folder) / f"{part}.unreadable.jsonl"


def _hold_out(
    data: DataArguments, train: Dataset, rated: list[str] | None, side_file: Path | None
) -> tuple[Dataset, Dataset | None]:
    """The training rows without those that are evaluated on, and these: of another split, or drawn, or none."""
    if data.eval_split is not None or data.eval_dataset_name is not None:
        return train, _load(data, data.eval_dataset_name or data.dataset_name, data.eval_split, rated, side_file)
    if not data.eval_rows_held_out:
        return train, None
    if data.eval_rows_held_out >= len(train):
        raise ValueError(f"`eval_rows_held_out` is {data.eval_rows_held_out} of only {len(train)} rows.")
    return _draw_prompts(train, data.eval_rows_held_out, None if rated is not None else "chosen")


def _draw_prompts(rows: Dataset, count: int, answer: str | None) -> tuple[Dataset, Dataset]:
    """
    Rows without those of prompts that were drawn, and these: at least `count`, the rows of a prompt together. What is
    said of answers to one prompt has much in common, so that a model which knows some of them looks better than it is.
    Where all rows are of one prompt, rows are drawn.

    Not drawn with the seed of the run: with the same rows held out, members of an ensemble can be compared, and none
    has trained on what the ensemble is evaluated on.
    """
    prompts = [_name_prompt(row, number, answer) for number, row in enumerate(rows)]
    if len(set(prompts)) == 1:
        prompts = list(map(str, range(len(rows))))
    order = np.random.default_rng(0).permutation(len(rows)).tolist()  # as `Dataset.train_test_split` draws
    sizes, drawn, total = Counter(prompts), set[str](), 0
    for row in order:
        if total >= count:
            break
        if prompts[row] not in drawn:
            drawn.add(prompts[row])
            total += sizes[prompts[row]]
    if total == len(rows):
        raise ValueError(
            f"`eval_rows_held_out` is {count} of {len(rows)} rows, which are of {len(sizes)} prompts: nothing would "
            "be left to train on. Hold fewer out, or name a split (`eval_split`)."
        )
    parts = [[row for row in order if (prompts[row] in drawn) == is_drawn] for is_drawn in (False, True)]
    if total > count:
        logger.warning("Held out are %d rows, whole prompts, and not %d.", total, count)
    return rows.select(parts[0]), rows.select(parts[1])


def _name_prompt(row: dict[str, Any], number: int, answer: str | None) -> str:
    """What rows of one prompt share; a row whose prompt is not known, or that cannot be read, has its own."""
    try:
        return key_of_prompt(read_conversation(row, answer)) or str(number)
    except ValueError:  # told where it is encoded
        return str(number)


def _load(
    data: DataArguments, name: str, split: str | None, rated: list[str] | None, side_file: Path | None
) -> Dataset:
    unreadable: list[RowError] | None = None if side_file is None else []
    rows = load_split(data, name, split, rated, unreadable)
    if unreadable and side_file is not None:
        _tell_unreadable(name, unreadable, side_file)
    return rows


def load_split(
    data: DataArguments,
    name: str,
    split: str | None,
    rated: list[str] | None = None,
    unreadable: list[RowError] | None = None,
) -> Dataset:
    """
    The rows of one split, as [`load_splits`] reads each.

    Args:
        data (`DataArguments`): how they are read. name (`str`): the file or dataset. split (`str`, *optional*): its
            split.
        rated (`list[str]`, *optional*): as of [`load_splits`].
        unreadable (`list`, *optional*): gets the errors of what holds no row, which is then left out.
    """
    rows = load_rows(name, split, data.dataset_config, data.dataset_revision, unreadable=unreadable, numbered=True)
    if data.data_format == "ultrafeedback":
        rows = from_ultrafeedback(rows)
    else:
        # a row of several answers is pairs to the gating stage, and conversations of their own to the attribute stage
        expand = rank_pairs if rated is None else split_candidates
        rows = read_dataset(rows, expand, format=data.format, ignore=data.ignore_columns or (), name=name)
    if rated is None or not data.skip_unrated:
        return rows
    kept = [number for number, row in enumerate(rows) if _may_be_rated(row, rated)]
    if len(kept) < len(rows):
        logger.warning("%s: left out %d of %d rows without a rating.", name, len(rows) - len(kept), len(rows))
    return rows.select(kept)


def _may_be_rated(row: dict[str, Any], attributes: list[str]) -> bool:
    """Whether a row has a rating, or ratings that cannot be read, which are told where all rows are."""
    try:
        return is_rated(row, attributes)
    except RowError:
        return True


def _tell_unreadable(name: str, unreadable: list[RowError], side_file: Path):
    side_file.parent.mkdir(parents=True, exist_ok=True)
    side_file.write_bytes(json_lines([{"row": error.row, "reason": str(error)} for error in unreadable]))
    message = "%s: lines that hold no row were left out: %d. The first: %s See %s."
    logger.warning(message, name, len(unreadable), unreadable[0], side_file)
