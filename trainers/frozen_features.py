"""What stays frozen while a head trains: its weights, and the hidden states that are computed from it once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from torch import nn

from urm_hf.scoring.features import Features, deduplicate, pooled_features, weights_fingerprint
from urm_hf.trainers.sharding import check_same_weights


def train_only(model: nn.Module, trained: nn.Module) -> None:
    """
    Freezes a model but for a part of it.

    Args:
        model (`nn.Module`): gets no gradients.
        trained (`nn.Module`): a part of it, which gets them.
    """
    model.requires_grad_(False)
    trained.requires_grad_(True)


def frozen_fingerprint(model: nn.Module, trained: nn.Module) -> str:
    """A hash of all weights of `model` but those of `trained`."""
    ours = {id(parameter) for parameter in trained.parameters()}
    frozen = nn.ParameterDict()
    for name, parameter in model.named_parameters():
        if id(parameter) not in ours:  # by identity: a part does not know its names in the whole
            frozen[name.replace(".", "_")] = parameter  # parameters of a dict have no dots in their names
    return weights_fingerprint(frozen)


class FeatureStore(Mapping):
    """
    The hidden states of a trainer's datasets, by the dataset's name, on a backbone that stays as it is.

    Args:
        trainer (`Trainer`): its model, tokenizer, accelerator and arguments are read.
    """

    def __init__(self, trainer):
        self._trainer, self._maps = trainer, {}
        self._fingerprint = weights_fingerprint(trainer.model.model)
        check_same_weights(trainer.accelerator, self._fingerprint)

    def __getitem__(self, name: str) -> Features:
        return self._maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def index(self, dataset: Dataset, id_columns: dict[str, str], name: str) -> Dataset:
        """
        `dataset` with each column of token ids replaced by a column of indices into the hidden states of `name`.

        Args:
            dataset (`Dataset`): encoded rows.
            id_columns (`dict[str, str]`): {column of token ids: column of indices}. A conversation that occurs twice
                is computed once.
            name (`str`): of the dataset; an apostrophe is added where it is taken.
        """
        trainer, rows = self._trainer, len(dataset)
        sequences, indices = deduplicate([ids for column in id_columns for ids in dataset[column]])
        while name in self._maps:  # another dataset passed to `evaluate`
            name += "'"
        accelerator = trainer.accelerator
        if accelerator.num_processes > 1:
            # Each process computes a share of them. Were all computed by one, the others would wait for it, at 8B for
            # an hour, which is longer than torch.distributed lets them.
            share = find_share(list(map(len, sequences)), accelerator.process_index, accelerator.num_processes)
            self._read_or_compute(sequences[share], name)
            accelerator.wait_for_everyone()
        # where the processes share no file system, what others computed is not here, and is computed again
        self._maps[name] = self._read_or_compute(sequences, name)
        columns = {column: dataset[column] for column in dataset.column_names if column not in id_columns}
        for number, column in enumerate(id_columns.values()):
            columns[column] = indices[number * rows : (number + 1) * rows]
        return Dataset.from_dict({**columns, "feature_file": [name] * rows})

    def _read_or_compute(self, sequences: Sequence[Sequence[int]], name: str) -> Features:
        trainer = self._trainer
        # under the autocast of the training: hidden states are then what the backbone would give there
        with trainer.accelerator.autocast():
            return pooled_features(
                trainer.model,
                sequences,
                trainer.processing_class.pad_token_id,
                trainer.args.cache_dir,
                trainer.args.max_tokens_per_batch,
                f"Hidden states ({name})",
                self._fingerprint,
            )


def find_share(lengths: Sequence[int], process: int, processes: int) -> slice:
    """
    The part of sequences, one after the other, that a process computes: all have nearly the same number of tokens.

    Neighbours stay together, since the answers to one prompt share its tokens.

    Args:
        lengths (`list[int]`): tokens of each sequence.
        process (`int`): number of the process, from 0.
        processes (`int`): how many there are.
    """
    done = np.concatenate([[0], np.cumsum(lengths)])  # tokens before each sequence, and of all
    bounds = np.searchsorted(done, [done[-1] * part / processes for part in (process, process + 1)])
    return slice(int(bounds[0]), len(lengths) if process == processes - 1 else int(bounds[1]))


def refuse_streams(datasets: Sequence[Any], remedy: str) -> None:
    """
    Refuses to cache hidden states of what has no end.

    Args:
        datasets (`Sequence[Dataset | IterableDataset | dict | None]`): to train and to evaluate on.
        remedy (`str`): the setting by which none are cached.

    Raises:
        ValueError: one of them is streaming.
    """
    each = [part for dataset in datasets for part in (dataset.values() if isinstance(dataset, dict) else [dataset])]
    if any(isinstance(dataset, IterableDataset) for dataset in each):
        raise ValueError(
            f"a streaming dataset has no end to compute in advance: set `{remedy}`, or load the dataset whole."
        )


def index_datasets(trainer, store: FeatureStore, id_columns: dict[str, str]):
    """Replaces the tokens of a trainer's datasets by indices into hidden states, which are computed where needed."""
    trainer.train_dataset = store.index(trainer.train_dataset, id_columns, "train")
    if isinstance(trainer.eval_dataset, dict):
        named = trainer.eval_dataset.items()
        trainer.eval_dataset = {name: store.index(dataset, id_columns, name) for name, dataset in named}
    elif trainer.eval_dataset is not None:
        trainer.eval_dataset = store.index(trainer.eval_dataset, id_columns, "eval")
