"""
Linear merging of URMs in weight space (appendix C.1), tensor by tensor: never are two models in memory.

M members with weights w_m that sum to 1; n attributes; H hidden size. Every tensor of the merged model is
sum_m w_m W_m, computed in float64 and cast back to the members' dtype.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from os.path import commonprefix
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers.dynamic_module_utils import custom_object_save

from urm_hf.modeling import URMConfig, URMForRewardModeling

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ["tokenizer*", "special_tokens*", "added_tokens*", "chat_template*", "vocab.*", "merges.txt", "spiece.*"]
PARTS = {"all": "", "body": "model.", "value head": "score.value.", "gate": "score.gate."}
VALUE = "score.value.weight"  # (2n, H): n rows of means, then n of log standard deviations
# statistics of the training data, and the one in whose unit each is compared
STATISTICS = {"label_means": "label_stds", "label_stds": "label_stds"}
STATISTICS |= dict.fromkeys(["score.feature_mean", "score.feature_scale"], "score.feature_scale")
STATISTICS |= dict.fromkeys(["score.label_mean", "score.label_std"], "score.label_std")
HEAD = ("attributes", "attribute_scales", "gating_hidden_size", "reward_weights", "log_std_bounds")
# fields of a backbone's config that do not change what it computes
IGNORED = "architectures dtype transformers_version id2label label2id problem_type use_cache initializer_range"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CHUNK = 2**20  # numbers of a tensor that are averaged at once


@dataclass
class MergeResult:
    """
    What was merged: normalised weights, commits (None for folders), "average" or "first", number of parameters.

    `differences`: {part: (M, M)}, ||W_i - W_j|| / sqrt((||W_i||^2 + ||W_j||^2) / 2) over the tensors of "all", "body",
    "value head" and "gate". 0 = equal, sqrt(2) = as far apart as unrelated weights.
    """

    weights: list[float]
    revisions: list[str | None]
    log_std: str
    parameters: int
    differences: dict[str, list[list[float]]]


def merge_checkpoints(
    checkpoints: Sequence[str | Path],
    output_dir: str | Path,
    *,
    weights: Sequence[float] | None = None,
    revisions: Sequence[str | None] | None = None,
    log_std: str | None = None,
    max_shard_size: int | str = "5GB",
    token: str | bool | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> MergeResult:
    """
    Writes the weighted mean of two or more URMs' weights as one model; the paper's URM_reg is that of two seeds.

    Label and feature statistics that differ are refused, not folded into the weights: that would be exact for the
    means alone, for W has no bias to take a shift of log sigma, and `log_std_bounds` are in units of `label_stds`.
    Gates of different seeds are not aligned: better merge after the attribute stage and train the merged model's gate.

    Args:
        checkpoints: folders or Hub repositories of URMs with safetensors; pickled weights are never read.
        output_dir: a new or empty folder. It appears whole, at the end.
        weights (*optional*): one a member, summing to 1. Default: equal.
        revisions (*optional*): a commit, branch or tag for each repository, None for a folder.
        log_std (*optional*): "average" the log stds, a geometric mean of sigma; or keep those rows of W of the
            "first" member, on the merged body. Default: "average" for heads trained by "regression" or
            "deterministic"; others must choose, since merging hurts them (appendix C.1).
        max_shard_size: of the files written. This much is held in memory, and one tensor of each member.
        token, local_files_only: for the Hub. progress: shows a progress bar.

    Raises:
        ValueError: the members cannot be merged, an argument does not fit them, or a tensor is not finite.
        FileExistsError: `output_dir` exists and is not empty. FileNotFoundError: no such checkpoint.
    """
    names = [checkpoints] if isinstance(checkpoints, str) else [str(name) for name in checkpoints]
    weights, revisions = _check_arguments(names, weights, revisions, log_std)
    with _appears_whole(output_dir) as folder:
        members = [_Member(*pinned, token, local_files_only) for pinned in zip(names, revisions, strict=True)]
        log_std = _check_members(members, log_std)
        differences = _write_weights(members, weights, log_std, folder, max_shard_size, progress)
        _write_rest(members, weights, log_std, folder)
    parameters = sum(x.numel() for key, x in members[0].tensors.items() if key not in STATISTICS)
    return MergeResult(weights, [member.revision for member in members], log_std, parameters, differences)


class _Member:
    """A checkpoint on disk: config, tokenizer and the layout of its tensors, which are read one at a time."""

    def __init__(self, name: str, revision: str | None, token: str | bool | None, local_files_only: bool):
        self.name, self.revision, self.folder = name, None, Path(name)
        if self.folder.is_dir():
            if revision is not None:
                raise ValueError(f"`revisions` pins {name} to {revision!r}, but it is a folder: pass None for it.")
        elif self.folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
            raise FileNotFoundError(f"{name}: no such folder.")
        else:
            wanted = ["config.json", WEIGHTS, INDEX, "model-*.safetensors", *TOKENIZER]
            hub: Any = {"token": token, "local_files_only": local_files_only, "allow_patterns": wanted}
            self.folder = Path(snapshot_download(name, revision=revision, **hub))
            self.revision = self.folder.name  # the commit
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(f"{name} has no config.json. If it is an adapter, merge it into its model first.")
        model_type = _json(self.folder / "config.json").get("model_type")
        if model_type != URMConfig.model_type:
            raise ValueError(f"{name} is not a URM: its `model_type` is {model_type!r}, not {URMConfig.model_type!r}.")
        self.config = URMConfig.from_pretrained(self.folder)
        self.tensors: dict[str, Tensor] = {}  # without data
        self.files: dict[str, Path] = {}
        for path in _weight_files(name, self.folder):
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (it is no mapping)
                    info, self.files[key] = file.get_slice(key), path
                    if info.get_dtype() not in DTYPES:
                        raise ValueError(f"{key} of {name} is {info.get_dtype()}: only {[*DTYPES]} can be averaged.")
                    self.tensors[key] = torch.empty(info.get_shape(), dtype=DTYPES[info.get_dtype()], device="meta")
        if VALUE not in self.files:
            raise ValueError(f"{name} has no {VALUE}: its head was not saved with it.")

    def tensor(self, key: str) -> Tensor:
        if key not in self.files:  # a statistic in the config
            return torch.tensor(getattr(self.config, key))
        with safe_open(self.files[key], framework="pt") as file:
            return file.get_tensor(key)

    def layout(self) -> dict[str, Any]:
        """All that members must share, by how an error names it."""
        backbone = self.config.backbone_config.to_dict()
        computing = [k for k in backbone if k not in IGNORED.split() and "drop" not in k and k[0] != "_"]
        return (
            {f"`{field}`": getattr(self.config, field) for field in HEAD}
            | {f"`backbone_config.{field}`": backbone[field] for field in computing}
            | {f"the tokenizer's {field}": value for field, value in _tokenizer(self.folder).items()}
            | {f"shape or dtype of {key}": (list(x.shape), x.dtype) for key, x in self.tensors.items()}
        )


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _weight_files(name: str, folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    files = sorted(set(_json(folder / INDEX).get("weight_map", {}).values()))
    if not files:
        missing = f"{name} has neither {WEIGHTS} nor {INDEX}"
        raise ValueError(f"{missing}; pickled weights (.bin) are never loaded. Save it again with `save_pretrained`.")
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise FileNotFoundError(f"{name} is incomplete: {INDEX} names {file!r}, which is not there.")
    return [folder / file for file in files]


def _tokenizer(folder: Path) -> dict[str, Any]:
    """What decides about the ids of a conversation."""
    fast, settings = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
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


def _check_arguments(names: list[str], weights, revisions, log_std) -> tuple[list[float], list[str | None]]:
    if len(names) < 2:
        raise ValueError(f"`checkpoints` must name at least two models, got {names}.")
    weights = [1 / len(names)] * len(names) if weights is None else list(weights)
    revisions = [None] * len(names) if revisions is None else list(revisions)
    for argument, values in (("weights", weights), ("revisions", revisions)):
        if len(values) != len(names):
            raise ValueError(f"`{argument}` needs one entry for each of the {len(names)} checkpoints, got {values}.")
    if not all(weight >= 0 for weight in weights) or not abs(sum(weights) - 1) <= 1e-6:
        raise ValueError(f"`weights` must be at least 0 and sum to 1, got {weights} with the sum {sum(weights)}.")
    if log_std not in (None, "average", "first"):
        raise ValueError(f'`log_std` must be "average", "first" or None, got {log_std!r}.')
    return [weight / sum(weights) for weight in weights], revisions


@contextmanager
def _appears_whole(output_dir: str | Path):
    """A temporary folder that becomes `output_dir` at the end, or is removed after an error."""
    output = Path(output_dir).resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"`output_dir` {output_dir} exists and is not an empty folder; name a new one.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
        folder = Path(temporary) / output.name
        folder.mkdir()  # with the usual permissions, unlike its parent
        yield folder
        if output.exists():
            output.rmdir()  # an error if it is no longer empty
        folder.rename(output)


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
            gap = ((member.tensor(what) - first.tensor(what)) / first.tensor(unit)).abs().max().item()
            if not gap <= 1e-5:  # measured on the same data, they are equal but for rounding
                raise ValueError(
                    f"Members differ in {what}, {first.name} and {member.name} by up to {gap:.3g} times {unit}. Train "
                    "both on the same rows, or with `standardize_labels=False` and `standardize_features=False`."
                )
    for one, other in combinations(members, 2):
        # the head first: as a rule its first tensor differs, and nothing more is read
        if all(torch.equal(one.tensor(key), other.tensor(key)) for key in sorted(one.files, reverse=True)):
            raise ValueError(f"{one.name} and {other.name} have identical weights: merging them would do nothing.")
    losses = [member.config.attribute_loss for member in members]
    if log_std is None and not set(losses) <= {"regression", "deterministic"}:
        raise ValueError(
            f"`log_std` must be chosen, for the heads were trained by {losses}: averaging log standard deviations is "
            "a geometric mean of sigma, and in the paper (appendix C.1) merging hurts such models. Pass "
            f'`log_std="average"` to accept that, or `log_std="first"` to keep those of {first.name}.'
        )
    if log_std != "first" and len(set(losses)) > 1:
        raise ValueError(f'Members differ in `attribute_loss`, {losses}: only `log_std="first"` can merge them.')
    return log_std or "average"


def _write_weights(
    members: list[_Member], weights: list[float], log_std: str, folder: Path, max_shard_size: int | str, progress: bool
) -> dict[str, list[list[float]]]:
    """Writes the shards and their index; returns the members' relative differences."""
    grams = {part: torch.zeros(len(members), len(members), dtype=torch.float64) for part in PARTS}
    plan = split_torch_state_dict_into_shards(members[0].tensors, max_shard_size=max_shard_size)
    with tqdm(total=len(members[0].tensors), unit="tensor", desc="Merging", disable=not progress) as bar:
        for file, keys in plan.filename_to_tensors.items():
            shard = {}
            for key in keys:
                shard[key], gram = _merge_tensor(key, members, torch.tensor(weights, dtype=torch.float64))
                if key == VALUE and log_std == "first":
                    n = len(shard[key]) // 2
                    shard[key][n:] = members[0].tensor(key)[n:]
                for part in (part for part, prefix in PARTS.items() if key.startswith(prefix)):
                    grams[part] += gram
                bar.update()
            save_file(shard, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    squares = {part: gram.diagonal()[:, None] + gram.diagonal() for part, gram in grams.items() if gram.any()}
    return {p: ((s - 2 * grams[p]).clamp(min=0) / (s / 2)).sqrt().tolist() for p, s in squares.items()}


def _merge_tensor(key: str, members: list[_Member], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of one tensor over the members, and their Gram matrix (M, M); a chunk of numbers at a time."""
    parts = [member.tensor(key).view(-1) for member in members]
    merged, gram = torch.empty_like(parts[0]), torch.zeros(len(parts), len(parts), dtype=torch.float64)
    for start in range(0, len(merged), CHUNK):
        numbers = torch.stack([part[start : start + CHUNK].double() for part in parts])  # (M, chunk)
        merged[start : start + CHUNK] = weights @ numbers
        gram += numbers @ numbers.T
    for member, square in zip(members, gram.diagonal(), strict=True):
        if not torch.isfinite(square):  # then a number is not: no square of a float32 overflows float64
            raise ValueError(f"{key} of {member.name} has values that are not finite.")
    return merged.view(members[0].tensors[key].shape), gram


def _write_rest(members: list[_Member], weights: list[float], log_std: str, folder: Path):
    """Config, the installed package's modeling files, and the first member's tokenizer."""
    config = members[0].config
    pairs = zip(members, weights, strict=True)
    sources = [{"name": m.name, "revision": m.revision, "weight": w, "training": m.config.training} for m, w in pairs]
    config.training = {"merged_from": sources, "log_std": log_std}
    config.save_pretrained(folder)
    custom_object_save(URMForRewardModeling, folder)
    for path in (path for pattern in TOKENIZER for path in members[0].folder.glob(pattern) if path.is_file()):
        shutil.copyfile(path, folder / path.name)
