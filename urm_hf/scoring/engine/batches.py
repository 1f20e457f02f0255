"""Two ways to put N token sequences through models in batches: packs that share prefixes, and padded batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

from urm_hf.scoring.engine.devices import execution_device, on_device
from urm_hf.scoring.engine.packed_attention import last_hidden_states
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.scoring.engine.prefix_memory import LayerStates, PrefixMemory, may_remember
from urm_hf.scoring.engine.prefixes import next_cut, pack, prefix_order, take_first, worth_sharing


@dataclass
class Plan:
    """
    Distinct sequences, and the indices of N of them in two orders: of prefixes, and of lengths.

    Args:
        sequences (`Sequence[Sequence[int]]`): token ids; of a part of a plan, those of the whole.
        by_prefix (`list[int]`): N indices in lexicographic order.
        shared (`list[int]`): of each in `by_prefix` the tokens that it has in common with the one before.
        by_length (`list[int]`): N indices, those of the longest first.
    """

    sequences: Sequence[Sequence[int]]
    by_prefix: list[int]
    shared: list[int]
    by_length: list[int]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Plan":
        """
        The plan for all sequences.

        Raises:
            ValueError: one of them is empty.
        """
        if not all(map(len, sequences)):
            raise ValueError("a sequence without tokens has no last hidden state, and so no reward.")
        # the longest first: a batch that is too large for memory shows at once, and not after hours
        by_length = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
        return cls(sequences, *prefix_order(sequences), by_length)

    @property
    def distinct_tokens(self) -> int:
        """Tokens that differ in themselves or in what precedes them: the least that has to be computed."""
        return sum(len(self.sequences[index]) for index in self.by_prefix) - sum(self.shared)

    def split(self, length: int) -> tuple["Plan", "Plan"]:
        """Plans for the sequences of at most `length` tokens, and for those that are longer."""
        fits = [len(sequence) <= length for sequence in self.sequences]
        return self._part(fits), self._part([not fit for fit in fits])

    def only(self, indices: Sequence[int]) -> "Plan":
        """The plan for some of the sequences, by their indices."""
        wanted = set(indices)
        return self._part([index in wanted for index in range(len(self.sequences))])

    def _part(self, taken: Sequence[bool]) -> "Plan":
        by_prefix, shared = [], []
        common = 0
        for index, count in zip(self.by_prefix, self.shared, strict=True):
            common = min(common, count)  # with the last that was taken: the least across those between
            if taken[index]:
                by_prefix.append(index)
                shared.append(common)
                common = len(self.sequences[index])
        by_length = [index for index in self.by_length if taken[index]]
        return Plan(self.sequences, by_prefix, shared, by_length)


class Packs:
    """
    Runs of neighbors in the order of prefixes, each a row of tokens without padding.

    Args:
        plan ([`Plan`]): the sequences.
        models (`Sequence[PreTrainedModel]`): one, or several on one backbone, of kinds that [`split_model`] splits.
        memory ([`PrefixMemory`], *optional*): of prefixes that this backbone has computed before.
    """

    def __init__(self, plan: Plan, models: Sequence[PreTrainedModel], memory: PrefixMemory | None = None):
        parts = [part for model in models if (part := split_model(model))]
        self.heads = [head for _, head in parts]
        self.backbone = parts[0][0]
        self.memory = memory if memory is not None and may_remember(self.backbone) else None
        self.remembered = 0  # tokens that the last batch did not compute
        self.order = plan.by_prefix
        self.sequences = [plan.sequences[index] for index in self.order]
        self.lengths = [len(sequence) for sequence in self.sequences]
        self.shared = worth_sharing(self.lengths, plan.shared)

    def end(self, start: int, max_tokens: int) -> int:
        """Where the batch that begins at `start` ends, so that it has at most `max_tokens`, or one sequence."""
        return next_cut(self.lengths, self.shared, start, max_tokens)

    def tokens(self, start: int, stop: int) -> int:
        """Tokens that a batch computes."""
        # the first has nothing before it in this batch, whatever it shares with the last of the batch before
        return sum(self.lengths[start:stop]) - sum(self.shared[start + 1 : stop]) - self.remembered

    def run(self, start: int, stop: int) -> list[ModelOutput]:
        """Each model's output for a batch, in the order of `order`."""
        # (B, H), computed once for all heads
        sequences, shared = self.sequences[start:stop], self.shared[start:stop]
        if self.memory is None:
            hidden = last_hidden_states(self.backbone, pack(sequences, shared))
        else:
            with self.memory.alone:
                hidden = self._run_with(self.memory, sequences, shared)
        return [head(hidden) for head in self.heads]

    def _run_with(self, memory: PrefixMemory, sequences: list[Sequence[int]], shared: list[int]) -> Tensor:
        """The hidden states (B, H), of what is remembered and the rest; remembers what others may share."""
        self.remembered = 0  # in case memory runs out below
        taken = memory.take(sequences, shared)
        spans = [(begin, begin + count) for begin, count in zip(taken.starts, taken.counts, strict=True)]
        packed = pack(sequences, shared, taken=spans)
        chosen = memory.choose(sequences, shared, taken)
        paths = {place: path for (_, place), path in packed.queries}
        kept = [take_first(paths[packed.last[number] + 1], count) for number, count in chosen]
        states = LayerStates(memory, taken, kept)
        hidden = last_hidden_states(self.backbone, packed, states)
        for (number, count), found in zip(chosen, states.states, strict=True):
            memory.put(sequences[number][:count], found)
        self.remembered = taken.total
        return hidden


class PaddedBatches:
    """
    Batches of like length, padded on the right.

    Args:
        plan ([`Plan`]): the sequences.
        models (`Sequence[PreTrainedModel]`): one, or several on one backbone.
        pad_token_id (`int`): what fills the rows up.
    """

    def __init__(self, plan: Plan, models: Sequence[PreTrainedModel], pad_token_id: int):
        self.models, self.pad_token_id = models, pad_token_id
        self.order = plan.by_length
        self.sequences = [plan.sequences[index] for index in self.order]

    def end(self, start: int, max_tokens: int) -> int:
        """Where the batch that begins at `start` ends, so that it has at most `max_tokens`, or one sequence."""
        rows = max(1, max_tokens // len(self.sequences[start]))  # the first is the longest: all are padded to it
        return min(len(self.order), start + rows)

    def tokens(self, start: int, stop: int) -> int:
        """Tokens that a batch computes, with its padding."""
        return (stop - start) * len(self.sequences[start])

    def run(self, start: int, stop: int) -> list[ModelOutput]:
        """Each model's output for a batch, in the order of `order`."""
        batch = pad_batch(self.sequences[start:stop], self.pad_token_id)
        inputs = {name: on_device(tensor, execution_device(self.models[0])) for name, tensor in batch.items()}
        if len(self.models) == 1:
            output = self.models[0](**inputs)
            if getattr(output, "logits", None) is None:
                name = type(self.models[0]).__name__
                raise ValueError(f"{name} gives no `logits`, which a reward model's reward is: it is no reward model.")
            output.logits = as_column(output.logits)
            return [output]
        hidden = self.models[0].pool(**inputs)  # (B, H), once for all heads
        return [model(pooled_hidden=hidden) for model in self.models]


def as_column(logits: Tensor) -> Tensor:
    """
    Rewards as (B, 1); models that bring their own code may give (B,).

    Args:
        logits (`Tensor`): (B, 1) or (B,).

    Raises:
        ValueError: more than one number for a conversation.
    """
    if logits.ndim > 2 or logits.ndim == 2 and logits.shape[1] != 1:
        raise ValueError(
            f"the model gives `logits` of shape {tuple(logits.shape)} for {len(logits)} conversations; a reward model "
            "gives one reward for each. Load it with num_labels=1, or wrap it so that `logits` is the reward."
        )
    return logits.reshape(-1, 1)


def split_model(model: PreTrainedModel) -> tuple[PreTrainedModel, Callable[[Tensor], ModelOutput]] | None:
    """
    A model's backbone, and what makes its output of pooled hidden states (B, H).

    Args:
        model (`PreTrainedModel`): a URM, or a reward model of another kind.

    Returns:
        `tuple[PreTrainedModel, Callable]` or `None`: None if it is built otherwise.

    Of scalar reward models only those of transformers: what a model that brings its own code does between its backbone
    and its reward cannot be seen from here.
    """
    if hasattr(model, "pool"):
        return model.model, lambda hidden: model(pooled_hidden=hidden)
    if not type(model).__module__.startswith("transformers.models."):
        return None
    head, backbone = getattr(model, "score", None), model.base_model
    if isinstance(head, nn.Module) and isinstance(backbone, PreTrainedModel) and backbone is not model:
        return backbone, lambda hidden: SequenceClassifierOutput(logits=head(hidden))
    return None
