"""How long a run is: its steps, and whether they are more than its rows bear."""

import logging
import math
from typing import Any

from datasets import IterableDataset

logger = logging.getLogger(__name__)

MANY_EPOCHS = 20  # beyond which a head that sees a few hundred rows has learnt them by heart


def count_steps(args: Any, batches: int | None) -> int:
    """
    Optimization steps, as transformers counts them.

    Args:
        args (`TrainingArguments`): `max_steps` wins over `num_train_epochs`.
        batches (`int`, *optional*): of an epoch, on each process; None of a stream, which needs `max_steps`.
    """
    if args.max_steps > 0 or batches is None:  # transformers lets steps win over epochs as well
        return args.max_steps
    steps = max(1, math.ceil(batches / args.gradient_accumulation_steps))
    return math.ceil(args.num_train_epochs * steps)


def warn_of_many_epochs(args: Any, dataset: Any) -> None:
    """
    Says that a run of `max_steps` passes its rows many times.

    Args:
        args (`TrainingArguments`): with `max_steps`.
        dataset (`Dataset` or `IterableDataset`): the training rows; nothing is known of a stream.
    """
    if args.max_steps <= 0 or dataset is None or isinstance(dataset, IterableDataset):
        return
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    epochs = args.max_steps * batch / len(dataset)
    if epochs > MANY_EPOCHS:
        logger.warning(
            "`max_steps=%d` of %d rows are %.0f passes over the %d that there are: such a gate knows them by heart. "
            "Lower `max_steps`, or leave it out; and evaluate on pairs that are held out.",
            args.max_steps,
            batch,
            epochs,
            len(dataset),
        )
