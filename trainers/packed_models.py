"""
Models that take a pack of conversations in place of a padded batch, and otherwise stay as they are.

The model is called with the last token of each of N conversations, (N, 1), and with the pack as a keyword, which every
layer of wrapping hands on: DDP, FSDP, PEFT, the model itself. At the backbone's door the tokens are exchanged for the
pack's, (1, T), and behind it the states of N last tokens come out, (N, 1, H). The head sees a batch of N conversations
of one token each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from urm_hf.modeling.modeling_urm import URMForRewardModeling
from urm_hf.scoring.engine.devices import execution_device
from urm_hf.scoring.engine.packed_attention import differ, install_attention, longest_window, probe_rows
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.scoring.engine.prefixes import pack_rows
from urm_hf.scoring.engine.running_pack import PACK, RunningPack

TAKES_PACKS = "_urm_takes_packs"  # marks a backbone whose hooks are set


def packed_batch(
    sequences: Sequence[Sequence[int]], *, share: bool, backend: str = "auto", unread: int | None = None
) -> dict[str, Any]:
    """
    A model's inputs for N conversations.

    Args:
        sequences (`Sequence[Sequence[int]]`): their token ids.
        share (`bool`): whether common prefixes are computed once.
        backend (`str`, *optional*, defaults to `"auto"`): of attention, see [`RunningPack`].
        unread (`int`, *optional*): a token id that the head does not read at the end of a conversation, see [`Trial`].
    """
    if unread is not None:
        sequences = [_without_end(sequence, unread) for sequence in sequences]
    running = RunningPack(pack_rows(sequences, share=share), backend)
    last = torch.tensor([[sequence[-1]] for sequence in sequences])
    return {"input_ids": last, "attention_mask": torch.ones_like(last), PACK: running}


def _without_end(sequence: Sequence[int], unread: int) -> Sequence[int]:
    end = len(sequence)
    while end > 1 and sequence[end - 1] == unread:
        end -= 1
    return sequence[:end]


def find_backbone(model: nn.Module) -> PreTrainedModel | None:
    """The decoder inside of a reward model, or of an adapter of one; None if there is none to be told from it."""
    whole: Any = model.get_base_model() if is_peft_model(model) else model  # type: ignore[operator]  # of peft
    backbone = getattr(whole, "base_model", None)
    return backbone if isinstance(backbone, PreTrainedModel) and backbone is not whole else None


def take_packs(backbone: Any) -> None:
    """Has a backbone take packs, besides what it takes."""
    if not getattr(backbone, TAKES_PACKS, False):
        setattr(backbone, TAKES_PACKS, True)
        backbone.register_forward_pre_hook(_unpack_inputs, with_kwargs=True)
        backbone.register_forward_hook(_take_last_states, with_kwargs=True)


def _unpack_inputs(backbone: Any, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]] | None:
    running = kwargs.get(PACK)
    if running is None:
        return None
    longest, window = max(running.packed.lengths), longest_window(backbone)
    if window is not None and longest > window:  # of an evaluation, say: the rows to train on were measured before
        raise ValueError(
            f"a conversation of {longest} tokens exceeds the attention window of {window}, of which packs know "
            'nothing. Set `packing="none"`, or a `max_length` with a `truncation`.'
        )
    install_attention(backbone)
    running.layers = 0
    device = args[0].device if args else kwargs["input_ids"].device
    # what was there for one token each: ids, positions and masks
    return (), {**kwargs, "inputs_embeds": None, "use_cache": False, **running.inputs(device)}


def _take_last_states(backbone: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    running = kwargs.get(PACK)
    if running is not None:
        output.last_hidden_state = running.take_last(backbone, output.last_hidden_state)[:, None]  # (N, 1, H)
    return output


@dataclass(frozen=True)
class Trial:
    """
    What a small pack showed of a model.

    Args:
        reason (`str`, *optional*): why it cannot be trained on packs; None if it can.
        drops (`bool`): whether activations are dropped while it trains: conversations that share a prefix would share
            what is dropped there.
        unread (`int`, *optional*): a token id that the head does not read at the end of a conversation. Classifiers of
            transformers look for the last token that is not padding, by its id: where a template ends in that very
            token, as with `pad_token = eos_token`, they read the one before.
    """

    reason: str | None
    drops: bool = False
    unread: int | None = None


def try_packs(model: nn.Module, sequence: Sequence[int], pad_token_id: int, backend: str = "auto") -> Trial:
    """
    Tries a small pack: it must give the states of a padded batch, and one reward a conversation, also while the model
    trains.

    Args:
        model (`Module`): a reward model, or an adapter of one, that is not sharded yet.
        sequence (`Sequence[int]`): token ids that it knows; its first 24 are used.
        pad_token_id (`int`): for the padded batch.
        backend (`str`, *optional*, defaults to `"auto"`): of attention.
    """
    backbone, name = find_backbone(model), type(model).__name__
    if backbone is None:
        return Trial(f"{name} has no backbone that can be told from its head")
    rows = probe_rows(sequence)
    take_packs(backbone)
    trained = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng():  # dropout must not move on what the run draws later
            packed, _ = _run(model.eval(), backbone, packed_batch(rows, share=True, backend=backend))
            padded, _ = _run(model, backbone, pad_batch(rows, pad_token_id))
            expected = padded[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
            difference = differ(packed[:, 0], expected, backbone.dtype)
            if difference is not None:
                return Trial(f"hidden states of packs differ by {difference:.1e} in {name}")
            unread = _find_unread(model, backbone, sequence, backend)
            training, _ = _run(model.train(), backbone, packed_batch(rows, share=True, backend=backend))
    except Exception as error:  # of any kind: it need not be a decoder, nor take positions
        return Trial(
            f"{name} does not take packs ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        )
    finally:
        model.train(trained)
    # an adapter whose last matrix is still 0 shows nothing of what is dropped before it
    layers = any(module.p > 0 for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd))
    return Trial(None, layers or not training.equal(packed), unread)


def _find_unread(model: Any, backbone: PreTrainedModel, sequence: Sequence[int], backend: str) -> int | None:
    """The padding token's id if the head does not read it at the end; see [`Trial`]."""
    pad = backbone.config.get_text_config().pad_token_id
    if pad is None:
        return None
    others = [token for token in sequence if token != pad][:8] or [int(pad == 0)]
    ending = pad_batch([[*others, pad]], pad)
    asked = _run(model, backbone, ending)[1]
    read, before = (
        _run(model, backbone, packed_batch([row], share=False, backend=backend))[1] for row in ([*others, pad], others)
    )
    reads, skips = (differ(logits, asked, backbone.dtype) is None for logits in (read, before))
    if not reads and not skips:
        raise ValueError(f"a conversation that ends in the padding token {pad} is read at neither of its last tokens")
    if reads and skips:  # a head of zeros tells nothing
        whole = model.get_base_model() if is_peft_model(model) else model
        return None if isinstance(whole, URMForRewardModeling) else pad
    return pad if skips else None


def _run(model: Any, backbone: PreTrainedModel, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The backbone's states and the rewards for a batch, by way of the whole model."""
    seen: list[Tensor] = []
    watch = backbone.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state.float()))
    device = execution_device(backbone)
    inputs = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        watch.remove()
    if len(logits) != len(batch["input_ids"]):
        raise ValueError(f"{len(logits)} rewards for {len(batch['input_ids'])} conversations")
    return seen[0], logits.float()
