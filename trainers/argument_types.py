"""Types of the trainers' arguments that TRL spells out at length, in one place for both stages."""

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import EvalPrediction, PreTrainedModel

if TYPE_CHECKING:  # peft is optional
    from peft import PeftModel

ModelSource: TypeAlias = "str | PathLike[str] | PreTrainedModel | PeftModel"
TrainDataset: TypeAlias = Dataset | IterableDataset
EvalDataset: TypeAlias = Dataset | IterableDataset | DatasetDict | IterableDatasetDict | dict[str, TrainDataset]
ComputeMetrics: TypeAlias = Callable[[EvalPrediction], dict[str, float]]
Optimizers: TypeAlias = tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None]
OptimizerClass: TypeAlias = tuple[type[torch.optim.Optimizer], dict[str, Any]]
PreprocessLogits: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
