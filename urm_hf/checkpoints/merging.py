"""
Linear merging of URMs in weight space (appendix C.1), tensor by tensor: never are two models in memory.

M members with weights w_m that sum to 1; n attributes; H hidden size. Every tensor of the merged model is
sum_m w_m W_m, computed in float64 and cast back to the members' dtype.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from os.path import commonprefix
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.dynamic_module_utils import custom_object_save

from urm_hf.checkpoints.files import Checkpoint, appears_whole, read_json, write_shards
from urm_hf.modeling import URMConfig, URMForRewardModeling
from urm_hf.modeling.checks_urm import explain_damage
from urm_hf.modeling.configuration_urm import POSTERIOR_FIELDS

logger = logging.getLogger(__name__)

PARTS = {"all": "", "body": "model.", "value head": "score.value.", "gate": "score.gate."}
VALUE = "score.value.weight"  # (2n, H): n rows of means, then n of log standard deviations
POSTERIOR = "score.posterior_"  # how its tensors are called
CHOICES = ("average", "first")
# statistics of the training data, and the one in whose unit each is compared
STATISTICS = {"label_means": "label_stds", "label_stds": "label_stds"}
STATISTICS |= dict.fromkeys(["score.feature_mean", "score.feature_scale"], "score.feature_scale")
STATISTICS |= dict.fromkeys(["score.label_mean", "score.label_std"], "score.label_std")
HEAD = ("attributes", "attribute_scales", "gating_hidden_size", "reward_weights", "log_std_bounds")
# fields of a backbone's config that do not change what it computes
IGNORED = "architectures dtype transformers_version id2label label2id problem_type use_cache initializer_range"
CHUNK = 2**20  # numbers of a tensor that are averaged at once


@dataclass
class MergeResult:
    """
    What was merged: normalised weights, commits (None for folders), "average" or "first" for log stds and gate,
    number of parameters.

    `differences`: {part: (M, M)}, ||W_i - W_j|| / sqrt((||W_i||^2 + ||W_j||^2) / 2) over the tensors of "all", "body",
    "value head" and "gate". 0 = equal, sqrt(2) = as far apart as unrelated weights.
    """

    weights: list[float]
    revisions: list[str | None]
    log_std: str
    gate: str
    parameters: int
    differences: dict[str, list[list[float]]]


def merge_checkpoints(
    checkpoints: Sequence[str | Path],
    output_dir: str | Path,
    *,
    weights: Sequence[float] | None = None,
    revisions: Sequence[str | None] | None = None,
    log_std: str | None = None,
    gate: str = "average",
    max_shard_size: int | str = "5GB",
    token: str | bool | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> MergeResult:
    """
    Writes the weighted mean of two or more URMs' weights as one model; the paper's URM_reg is that of two seeds.

    Members that hold heads alone, on one backbone that they name, are merged to such a model; others hold all weights.
    Label and feature statistics that differ are refused, not folded into the weights: that would be exact for the
    means alone, for W has no bias to take a shift of log sigma, and `log_std_bounds` are in units of `label_stds`.
    Gates of different seeds are not aligned: better merge after the attribute stage and train the merged model's gate,
    or keep one.

    Args:
        checkpoints (`Sequence[str | Path]`): folders or Hub repositories of URMs with safetensors, at least two.
        output_dir (`str` or `Path`): a new or empty folder. It appears whole, at the end.
        weights (`Sequence[float]`, *optional*): one a member, summing to 1. Default: equal.
        revisions (`Sequence[str | None]`, *optional*): commit, branch or tag for each repository, None for a folder.
        log_std (`str`, *optional*): "average" the log stds, a geometric mean of sigma; or keep those rows of W of
            the "first" member. Default: "average" for heads trained by "regression" or "deterministic"; others must
            choose, since merging hurts them (appendix C.1).
        gate (`str`, defaults to `"average"`): or keep the gate of the "first" member, on the merged body.
        max_shard_size (`int` or `str`, defaults to `"5GB"`): of the files; so much, and a tensor each, is in memory.
        token (`str` or `bool`, *optional*): of an account that may read the repositories.
        local_files_only (`bool`, defaults to `False`): takes what is in the cache, and downloads nothing.
        progress (`bool`, defaults to `False`): shows a progress bar.

    Raises:
        ValueError: the members cannot be merged, an argument does not fit them, or a tensor is not finite.
        FileExistsError: `output_dir` exists and is not empty. FileNotFoundError: no such checkpoint.
    """
    if isinstance(checkpoints, (str, Path)):
        raise ValueError(
            f"`checkpoints` must be a list of models, got the one name {str(checkpoints)!r}: "
            f'`merge_checkpoints(["{checkpoints}", "another"], "merged")`.'
        )
    names = [str(name) for name in checkpoints]
    weights, revisions = _check_arguments(names, weights, revisions, log_std, gate)
    with appears_whole(output_dir) as folder:
        members = [_Member(*pinned, token, local_files_only) for pinned in zip(names, revisions, strict=True)]
        log_std = _check_members(members, log_std)
        mean = _Mean(members, weights, log_std, gate)
        write_shards(folder, members[0].tensors, mean.tensor, max_shard_size, progress, "Merging")
        _write_rest(members, mean, folder)
    for member in members:  # of the result, and so once it is there
        if member.had_posterior:
            logger.warning("The posterior of %s is left out: fit one to the mean (`urm posterior`).", member.name)
    parameters = sum(x.numel() for key, x in members[0].tensors.items() if key not in STATISTICS)
    commits = [member.revision for member in members]
    return MergeResult(weights, commits, log_std, gate, parameters, mean.differences())


class _Member(Checkpoint):
    """
    A URM on disk: config, tokenizer and the layout of its tensors, which are read one at a time. Heads on one backbone
    that they name are merged alone, and the mean names it too.
    """

    takes_heads_alone = True

    def __init__(self, name: str, revision: str | None, token: str | bool | None, local_files_only: bool):
        super().__init__(name, revision, token, local_files_only)
        model_type = self.config.get("model_type")
        if model_type != URMConfig.model_type:
            raise ValueError(f"{name} is not a URM: its `model_type` is {model_type!r}, not {URMConfig.model_type!r}.")
        with explain_damage(f"config.json of {name}"):
            self.urm = URMConfig.from_pretrained(self.folder)
        self.index()
        # the posterior is of weights that the mean does not have
        self.tensors = {key: tensor for key, tensor in self.tensors.items() if not key.startswith(POSTERIOR)}
        self.had_posterior = self.urm.posterior_rank is not None
        if self.had_posterior:
            without = URMConfig(self.urm.backbone_config)
            for field in POSTERIOR_FIELDS:  # all, also one that is added later
                setattr(self.urm, field, getattr(without, field))
        if VALUE not in self.tensors:
            raise ValueError(f"{name} has no {VALUE}: its head was not saved with it.")

    def statistic(self, key: str) -> Tensor:
        return self.tensor(key) if key in self.tensors else torch.tensor(getattr(self.urm, key))

    def layout(self) -> dict[str, Any]:
        """All that members must share, by how an error names it."""
        backbone = self.urm.backbone_config.to_dict()
        computing = [k for k in backbone if k not in IGNORED.split() and "drop" not in k and k[0] != "_"]
        base = self.urm.base_weights
        named = "held by the model" if base is None else f"that of {base['name']}, fingerprint {base['fingerprint']}"
        return (
            {"their backbone": named}
            | {f"`{field}`": getattr(self.urm, field) for field in HEAD}
            | {f"`backbone_config.{field}`": backbone[field] for field in computing}
            | {f"the tokenizer's {field}": value for field, value in _tokenizer(self.folder).items()}
            | {f"shape or dtype of {key}": (list(x.shape), x.dtype) for key, x in self.tensors.items()}
        )


def _tokenizer(folder: Path) -> dict[str, Any]:
    """What decides about the ids of a conversation."""
    fast, settings = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")
    # `padding` and `truncation` are left over from the last call
    found = {f"tokenizer.json: {key}": fast[key] for key in fast if key not in ("padding", "truncation")}
    for pattern in ("*.model", "vocab.*", "merges.txt"):
        found |= {path.name: path.read_bytes() for path in folder.glob(pattern)}
    for key in ("add_bos_token", "add_eos_token", "bos_token", "eos_token", "pad_token"):
        token = settings.get(key)
        found[key] = token.get("content") if isinstance(token, dict) else token
    template = folder / "chat_template.jinja"
    found["chat template"] = template.read_text("utf-8") if template.is_file() else settings.get("chat_template")
    return found


def _check_arguments(
    names: list[str], weights, revisions, log_std: str | None, gate: str
) -> tuple[list[float], list[str | None]]:
    if len(names) < 2:
        raise ValueError(f"`checkpoints` must name at least two models, got {names}.")
    weights = [1 / len(names)] * len(names) if weights is None else list(weights)
    revisions = [None] * len(names) if revisions is None else list(revisions)
    for argument, values in (("weights", weights), ("revisions", revisions)):
        if len(values) != len(names):
            raise ValueError(f"`{argument}` needs one entry for each of the {len(names)} checkpoints, got {values}.")
    if not all(weight >= 0 for weight in weights) or not abs(sum(weights) - 1) <= 1e-6:
        raise ValueError(f"`weights` must be at least 0 and sum to 1, got {weights} with the sum {sum(weights)}.")
    if log_std not in (None, *CHOICES):
        raise ValueError(f'`log_std` must be "average", "first" or None, got {log_std!r}.')
    if gate not in CHOICES:
        raise ValueError(f'`gate` must be "average" or "first", got {gate!r}.')
    return [weight / sum(weights) for weight in weights], revisions


def _check_members(members: list[_Member], log_std: str | None) -> str:
    """Refuses members that have no meaningful mean; returns how log stds are merged."""
    first, ours = members[0], members[0].layout()
    for member in members[1:]:
        theirs = member.layout()
        for what in (what for what in ours | theirs if ours.get(what) != theirs.get(what)):
            texts = [str(ours.get(what)), str(theirs.get(what))]
            start = len(commonprefix(texts)) if max(map(len, texts)) > 200 else 0  # where long texts part
            a, b = (("..." if start else "") + text[start : start + 200] for text in texts)
            raise ValueError(f"Members differ in {what}: {first.name} has {a}, {member.name} has {b}.")
        for what, unit in STATISTICS.items():
            gap = ((member.statistic(what) - first.statistic(what)) / first.statistic(unit)).abs().max().item()
            if not gap <= 1e-5:  # measured on the same data, they are equal but for rounding
                raise ValueError(
                    f"Members differ in {what}, {first.name} and {member.name} by up to {gap:.3g} times {unit}. Train "
                    "both on the same rows, or with `standardize_labels=False` and `standardize_features=False`."
                )
    for one, other in combinations(members, 2):
        # the head first: as a rule its first tensor differs, and nothing more is read
        if all(torch.equal(one.tensor(key), other.tensor(key)) for key in sorted(one.tensors, reverse=True)):
            raise ValueError(f"{one.name} and {other.name} have identical weights: merging them would do nothing.")
    losses = [member.urm.attribute_loss for member in members]
    if log_std is None and not set(losses) <= {"regression", "deterministic"}:
        told = ", ".join(loss or "a loss that is not known" for loss in losses)
        raise ValueError(
            f"`log_std` must be chosen, for the heads were trained by {told}: averaging log standard deviations is a "
            "geometric mean of sigma, and in the paper (appendix C.1) merging hurts such models. Say "
            f'`log_std="average"` (`--log-std average`) to accept that, or "first" to keep those of {first.name}.'
        )
    if log_std != "first" and len(set(losses)) > 1:
        raise ValueError(f'Members differ in `attribute_loss`, {losses}: only `log_std="first"` can merge them.')
    return log_std or "average"


class _Mean:
    """The mean of the members' tensors, and how far apart they are."""

    def __init__(self, members: list[_Member], weights: list[float], log_std: str, gate: str):
        self.members, self.weights, self.log_std, self.gate = members, weights, log_std, gate
        self.grams = {part: torch.zeros(len(members), len(members), dtype=torch.float64) for part in PARTS}

    def tensor(self, key: str) -> Tensor:
        """A tensor of the merged model. Adds up the members' Gram matrix (M, M) of each part that it belongs to."""
        parts = [member.tensor(key).view(-1) for member in self.members]
        merged, weights = torch.empty_like(parts[0]), torch.tensor(self.weights, dtype=torch.float64)
        for start in range(0, len(merged), CHUNK):
            numbers = torch.stack([part[start : start + CHUNK].double() for part in parts])  # (M, chunk)
            merged[start : start + CHUNK] = weights @ numbers
            gram = numbers @ numbers.T
            for part in (part for part, prefix in PARTS.items() if key.startswith(prefix)):
                self.grams[part] += gram
        if key == VALUE and self.log_std == "first":
            merged[len(merged) // 2 :] = parts[0][len(merged) // 2 :]
        if key.startswith(PARTS["gate"]) and self.gate == "first":
            merged = parts[0]
        return merged.view(self.members[0].tensors[key].shape)

    def differences(self) -> dict[str, list[list[float]]]:
        """As in [`MergeResult`]."""
        squares = {part: gram.diagonal()[:, None] + gram.diagonal() for part, gram in self.grams.items() if gram.any()}
        return {p: ((s - 2 * self.grams[p]).clamp(min=0) / (s / 2)).sqrt().tolist() for p, s in squares.items()}


def _write_rest(members: list[_Member], mean: _Mean, folder: Path):
    """Config, the installed package's modeling files, and the first member's tokenizer and licences."""
    config = members[0].urm
    sources = [
        {"name": _public_name(member), "revision": member.revision, "weight": weight, "training": member.urm.training}
        for member, weight in zip(members, mean.weights, strict=True)
    ]
    config.training = {"merged_from": sources, "log_std": mean.log_std, "gate": mean.gate}
    config.save_pretrained(folder)
    custom_object_save(URMForRewardModeling, folder)
    members[0].copy_companions(folder)


def _public_name(member: _Member) -> str:
    """The repository, or of a folder only its own name: where it lies on a machine concerns nobody else."""
    return member.name if member.revision else member.folder.resolve().name
