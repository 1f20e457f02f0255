"""What stays frozen while a head trains: its weights, and the hidden states that are computed from it once."""

from collections.abc import Iterator, Mapping

from datasets import Dataset
from torch import nn

from urm_hf.scoring.features import Features, deduplicate, pooled_features, weights_fingerprint


def train_only(model: nn.Module, trained: nn.Module):
    """Gradients for `trained`, none for the rest of `model`."""
    model.requires_grad_(False)
    trained.requires_grad_(True)


def frozen_fingerprint(model: nn.Module, trained: nn.Module) -> str:
    """A hash of all weights of `model` but those of `trained`."""
    ours = {id(parameter) for parameter in trained.parameters()}
    frozen = {
        name.replace(".", "_"): parameter for name, parameter in model.named_parameters() if id(parameter) not in ours
    }
    return weights_fingerprint(nn.ParameterDict(frozen))


class FeatureStore(Mapping):
    """The hidden states of a trainer's datasets, by the dataset's name, on a backbone that stays as it is."""

    def __init__(self, trainer):
        self._trainer, self._maps = trainer, {}
        self._fingerprint = weights_fingerprint(trainer.model.model)

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
            id_columns: {column of token ids: column of indices}. A conversation that occurs twice is computed once.
        """
        trainer, rows = self._trainer, len(dataset)
        sequences, indices = deduplicate([ids for column in id_columns for ids in dataset[column]])
        while name in self._maps:  # another dataset passed to `evaluate`
            name += "'"
        with trainer.accelerator.main_process_first(), trainer.accelerator.autocast():
            self._maps[name] = pooled_features(
                trainer.model,
                sequences,
                trainer.processing_class.pad_token_id,
                trainer.args.cache_dir,
                trainer.args.max_tokens_per_batch,
                f"Hidden states ({name})",
                self._fingerprint,
            )
        columns = {column: dataset[column] for column in dataset.column_names if column not in id_columns}
        for number, column in enumerate(id_columns.values()):
            columns[column] = indices[number * rows : (number + 1) * rows]
        return Dataset.from_dict({**columns, "feature_file": [name] * rows})


def index_datasets(trainer, store: FeatureStore, id_columns: dict[str, str]):
    """Replaces the tokens of a trainer's datasets by indices into hidden states, which are computed where needed."""
    trainer.train_dataset = store.index(trainer.train_dataset, id_columns, "train")
    if isinstance(trainer.eval_dataset, dict):
        named = trainer.eval_dataset.items()
        trainer.eval_dataset = {name: store.index(dataset, id_columns, name) for name, dataset in named}
    elif trainer.eval_dataset is not None:
        trainer.eval_dataset = store.index(trainer.eval_dataset, id_columns, "eval")
