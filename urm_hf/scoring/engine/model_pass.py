"""Token sequences through models: in packs where the backbone allows it, else in padded batches; order is kept."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from urm_hf.scoring.engine.batches import Packs, PaddedBatches, Plan, split_model
from urm_hf.scoring.engine.devices import execution_device
from urm_hf.scoring.engine.packed_attention import (
    attention_name,
    compile_layers,
    gives_same_states,
    longest_window,
)
from urm_hf.scoring.engine.prefix_memory import PrefixMemory

logger = logging.getLogger(__name__)

FIELDS = (
    *("logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std"),
    *("attribute_epistemic_stds", "reward_epistemic_std", "attribute_intervals"),  # of a URM with a posterior
)
TOKENS_ON_CPU, TOKENS_ON_GPU = 4096, 8192  # of a batch, by default: a CPU's caches hold less

_compiling = threading.RLock()

Columns: TypeAlias = dict[str, Tensor]
Report: TypeAlias = Callable[[list[int], int], None]
Batch: TypeAlias = tuple[list[int], list[ModelOutput], int]


class ModelPass:
    """
    Runs models over plans.

    Args:
        max_tokens (`int`, *optional*): tokens of a batch, with its padding. Halved, and it stays so, whenever memory
            runs out. Default: 8192, on a CPU 4096.
        pad_token_id (`int`): for padded batches.
        compiled (`bool`, *optional*, defaults to `False`): whether the layers of backbones are compiled with
            `torch.compile`.
        memory ([`PrefixMemory`], *optional*): keys and values of prefixes, kept from call to call; for one backbone,
            whose weights do not change.
    """

    def __init__(
        self,
        max_tokens: int | None,
        pad_token_id: int,
        compiled: bool = False,
        memory: PrefixMemory | None = None,
    ):
        self.max_tokens, self.pad_token_id, self.compiled = max_tokens, pad_token_id, compiled
        self.memory = memory
        self._packable: dict[tuple[type, str], bool] = {}  # of the kinds of backbone and attention that were tried out

    def outputs(
        self, plan: Plan, models: Sequence[PreTrainedModel], report: Report, posterior_features: bool = False
    ) -> list[Columns]:
        """
        The outputs for all sequences, on the CPU, of one model, or of several that share their backbone.

        Args:
            plan ([`Plan`]): N sequences.
            models (`Sequence[PreTrainedModel]`): one, or several that share their backbone.
            report (`Callable`): called after each batch with the indices of its sequences and the tokens that were
                computed.
            posterior_features (`bool`, *optional*, defaults to `False`): whether the outputs, of models with a
                posterior, hold a column of this name, float16, see [`URMHead.posterior_features`].

        Returns:
            `list[dict[str, Tensor]]`: of each model its outputs by name, of N rows in the order of the sequences.
        """
        columns: list[list[Columns]] = [[] for _ in models]  # of each model, batch by batch
        order: list[int] = []
        for indices, outputs, tokens in self.batches(plan, models):
            for batches, output, model in zip(columns, outputs, models, strict=True):
                batches.append(_read_columns(output, model, posterior_features))
            order += indices
            report(indices, tokens)
        found = [_restore_order(batches, order) for batches in columns]
        self._repeat_apart(plan, models, found, report, posterior_features)
        return found

    def _repeat_apart(
        self,
        plan: Plan,
        models: Sequence[PreTrainedModel],
        columns: list[Columns],
        report: Report,
        posterior_features: bool,
    ):
        """
        Computes once more, in place, the rows whose reward is not finite, each in a row of a padded batch of its own.

        In a pack a token reads others with the weight 0, and 0 * NaN is NaN: one conversation that the model cannot
        bear would spoil those that share its prefix. Only those that are at fault stay as they were.
        """
        finite = torch.stack([torch.isfinite(column["logits"]).all(-1) for column in columns]).all(0)
        suspects = plan.only((~finite).nonzero()[:, 0].tolist())
        if not suspects.by_prefix:
            return
        for indices, outputs, tokens in self._run(
            PaddedBatches(suspects, models, self.pad_token_id), execution_device(models[0])
        ):
            for column, output, model in zip(columns, outputs, models, strict=True):
                for name, values in _read_columns(output, model, posterior_features).items():
                    column[name][torch.tensor(indices)] = values.to(column[name])
            report([], tokens)

    def batches(self, plan: Plan, models: Sequence[PreTrainedModel]) -> Iterator[Batch]:
        """Batch by batch: the indices of its sequences, each model's output for them, and the tokens computed."""
        # left before anything is yielded: a generator that its reader leaves alone would keep the lock
        with self._alone_if_compiled():
            packable, padded = self._parts(plan, models[0])
            if self.compiled:
                compile_layers(models[0].base_model)
        if packable.by_prefix:
            yield from self._run(Packs(packable, models, self.memory), execution_device(models[0]))
        if padded.by_prefix:
            yield from self._run(PaddedBatches(padded, models, self.pad_token_id), execution_device(models[0]))

    def _run(self, batches: Packs | PaddedBatches, device: torch.device) -> Iterator[Batch]:
        default = TOKENS_ON_CPU if device.type == "cpu" else TOKENS_ON_GPU
        limit = self.max_tokens or default
        start = 0
        while start < len(batches.order):
            stop = batches.end(start, limit)
            outputs = None
            try:
                with torch.inference_mode(), self._alone_if_compiled():
                    outputs = batches.run(start, stop)
            except RuntimeError as error:
                if stop - start == 1 or not out_of_memory(error):  # one sequence cannot be halved
                    raise
            tokens = batches.tokens(start, stop)
            if outputs is None:  # only now, when the traceback with the batch's tensors is gone
                limit = tokens // 2
                self.max_tokens = min(limit, self.max_tokens or limit)  # another thread may have halved it further
                logger.info("A batch of %d tokens is too large for memory; at most %d from now on.", tokens, limit)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield batches.order[start:stop], outputs, tokens
            start = stop

    def _alone_if_compiled(self):
        """A batch of compiled layers may have to be traced, which torch does not do in two threads at once."""
        return _compiling if self.compiled else nullcontext()

    def _parts(self, plan: Plan, model: PreTrainedModel) -> tuple[Plan, Plan]:
        """What goes in packs, and what in padded batches; why the latter is said at debug level."""
        name, parts = type(model).__name__, split_model(model)
        if parts is None:
            logger.debug("Padded batches: %s has no head that reads a backbone's last hidden state.", name)
            return plan.split(0)  # nothing, and all
        backbone = parts[0]
        window = longest_window(backbone)
        packable, padded = plan.split(sys.maxsize if window is None else window)
        if padded.by_prefix:
            count = len(padded.by_prefix)
            logger.debug("Padded batches: %d exceed the attention window of %s, %d tokens.", count, name, window)
        if packable.by_prefix and self._can_pack(packable, backbone):
            return packable, padded
        return plan.split(0)

    def _can_pack(self, plan: Plan, backbone: PreTrainedModel) -> bool:
        """Whether packs give the backbone's numbers, tried out once for each kind."""
        kind = (type(backbone), attention_name(backbone))
        if kind not in self._packable:
            longest = plan.sequences[plan.by_length[0]]  # of real ids: random ones may be tokens of images or padding
            same = gives_same_states(backbone, longest, self.pad_token_id)
            if same is None:  # another sequence may tell: padded batches for this plan, but not for ever
                return False
            self._packable[kind] = same
        return self._packable[kind]


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory. On a GPU that has a class of its own, on a CPU only a text."""
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "not enough memory", "can't allocate memory"))


def _read_columns(output: ModelOutput, model: PreTrainedModel, posterior_features: bool) -> Columns:
    """What is kept of a model's output for a batch: hidden states of all batches would fill the memory."""
    columns = {name: output[name] for name in FIELDS if name in output}
    if posterior_features:
        columns["posterior_features"] = model.score.posterior_features(output["pooled_hidden"]).half()
    return columns


def _restore_order(batches: list[Columns], order: list[int]) -> Columns:
    """Columns of N rows, on the CPU, from batches whose rows are those of `order`."""
    columns = {}
    for name in batches[0]:
        rows = torch.cat([batch[name] for batch in batches]).cpu()
        columns[name] = torch.empty_like(rows)
        columns[name][torch.tensor(order)] = rows
    return columns
