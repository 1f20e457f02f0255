"""What TRL's `RewardTrainer` does by itself since some version after 1.0; can go when setup.cfg asks for 1.16."""

from typing import Any


class RunsOnOlderTRL:
    """For a subclass of TRL's `RewardTrainer`. With a newer TRL it changes nothing."""

    _tp_size = 1  # processes that share a batch

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """A dataset that is passed here is prepared as those of the constructor are."""
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self._prepare(dataset, name) for name, dataset in eval_dataset.items()}
        elif eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self._prepare(eval_dataset, "eval")
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[misc]

    def _prepare(self, dataset, name):
        return self._prepare_dataset(dataset, self.processing_class, self.args, name)
