"""
Linear merging of URMs in weight space (appendix C.1), tensor by tensor: never are two models in memory.

M members with weights w_m that sum to 1; n attributes; H hidden size. Every tensor of the merged model is
sum_m w_m W_m, computed in float64 and cast back to the members' dtype.
"""

import json
import math
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
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
VALUE = "score.value.weight"  # (2n, H): n rows of means, then n of log standard deviations
FEATURE_MEAN, FEATURE_SCALE = "score.feature_mean", "score.feature_scale"
PARTS = {"body": "model.", "value head": "score.value.", "gate": "score.gate."}
# trained by a squared error, these have log stds that do not say how human ratings spread
SQUARED_ERROR_LOSSES = ("regression", "deterministic")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
HEAD_FIELDS = ("attributes", "attribute_scales", "gating_hidden_size", "reward_weights", "log_std_bounds")
VOCABULARY_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("chat_template.json", "additional_chat_templates/*.jinja", *VOCABULARY_FILES),
)
# settings of a tokenizer that change the ids of a conversation without being in tokenizer.json
TOKEN_SETTINGS = ("add_bos_token", "add_eos_token", "bos_token", "eos_token", "pad_token")
DOWNLOADED = ["config.json", "adapter_config.json", WEIGHTS, INDEX, "model-*.safetensors", *TOKENIZER_FILES]
# fields of a backbone's config that do not change what it computes
NOT_ARCHITECTURE = {
    *("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id"),
    *("num_labels", "problem_type", "use_cache", "initializer_range", "return_dict", "name_or_path"),
}
CHUNK = 2**22  # numbers of a tensor that are averaged at once


@dataclass
class MergeResult:
    """
    What [`merge_checkpoints`] did.

    Args:
        output_dir: the merged model's folder.
        members, revisions, weights: what was merged; a revision is the commit of a repository, None of a folder.
        log_std: "average" or "first".
        parameters: number of parameters of the merged model.
        differences: `{part: matrix}`, M x M: ||W_i - W_j|| / sqrt((||W_i||^2 + ||W_j||^2) / 2) over all tensors of
            "all", "body", "value head" or "gate". 0 = equal; sqrt(2) = as far apart as unrelated weights.
    """

    output_dir: Path
    members: list[str]
    revisions: list[str | None]
    weights: list[float]
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

    Members must share body, head layout, tokenizer and label and feature statistics. Statistics that differ are
    refused, not folded into the weights: that would be exact for the means alone, since W has no bias to take a shift
    of log sigma and `log_std_bounds` are in units of `label_stds`. The gate is averaged like all else, but gates of
    different seeds are not aligned networks: merge after the attribute stage and train the gate on the merged model.

    Args:
        checkpoints: folders or Hub repositories of URMs with safetensors; pickled weights are never read.
        output_dir: a new or empty folder. It appears whole, at the end.
        weights (*optional*): one a member, summing to 1. Default: equal.
        revisions (*optional*): a commit, branch or tag for each repository, None for a folder.
        log_std (*optional*): "average" the log standard deviations, which is a geometric mean of sigma; or keep those
            rows of W of the "first" member, which then read the merged body. Default: "average" for heads trained by
            "regression" or "deterministic"; others must choose, since merging hurts them (appendix C.1).
        max_shard_size: of the files written; this much is held in memory, with one tensor of each member.
        token, local_files_only: for the Hub. progress: shows a progress bar.

    Raises:
        ValueError: the members cannot be merged, an argument does not fit them, or a tensor is not finite.
        FileExistsError: `output_dir` exists and is not empty. FileNotFoundError: no such checkpoint.
    """
    names = [str(checkpoint) for checkpoint in checkpoints]
    weights = _check_weights(names, weights)
    revisions = list(revisions) if revisions is not None else [None] * len(names)
    if len(revisions) != len(names):
        raise ValueError(f"`revisions` needs one entry for each of the {len(names)} checkpoints, got {revisions}.")
    if log_std not in (None, "average", "first"):
        raise ValueError(f'`log_std` must be "average", "first" or None, got {log_std!r}.')
    output = Path(output_dir).resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"`output_dir` {output_dir} exists and is not an empty folder; name a new one.")
    hub = {"token": token, "local_files_only": local_files_only}
    members = [_Member(name, revision, **hub) for name, revision in zip(names, revisions, strict=True)]
    log_std = _check_members(members, log_std)

    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        grams = _write_weights(members, weights, log_std, temporary, max_shard_size, progress)
        _write_rest(members, weights, log_std, temporary)
        if output.exists():
            output.rmdir()  # empty, as seen above
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shapes = members[0].tensors
    parameters = sum(math.prod(shapes[name][0]) for name in shapes if name not in (FEATURE_MEAN, FEATURE_SCALE))
    commits = [member.revision for member in members]
    differences = {part: _relative_differences(gram) for part, gram in grams.items() if gram.any()}
    return MergeResult(Path(output_dir), names, commits, weights, log_std, parameters, differences)


class _Member:
    """A checkpoint on disk: its config, tokenizer and the layout of its tensors. Tensors are read one at a time."""

    def __init__(self, name: str, revision: str | None, **hub):
        self.name, self.revision = name, None
        self.folder = Path(name)
        if self.folder.is_dir():
            if revision is not None:
                raise ValueError(f"`revisions` pins {name} to {revision!r}, but it is a folder: pass None for it.")
        elif self.folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
            raise FileNotFoundError(f"{name}: no such folder.")
        else:
            self.folder = Path(snapshot_download(name, revision=revision, allow_patterns=DOWNLOADED, **hub))
            self.revision = self.folder.name  # the commit
        self.config = _urm_config(name, self.folder)
        self.tokenizer = _describe_tokenizer(self.folder)
        self.files = _weight_files(name, self.folder)
        self.tensors: dict[str, tuple[list[int], str]] = {}  # shape, dtype as safetensors names it
        self._shard: tuple[str, Any] = ("", None)
        for key in self.files:
            header = self._open(key).get_slice(key)
            self.tensors[key] = (header.get_shape(), header.get_dtype())

    def _open(self, key: str):
        if self._shard[0] != self.files[key]:
            self._shard = (self.files[key], safe_open(self.folder / self.files[key], framework="pt"))
        return self._shard[1]

    def tensor(self, key: str) -> Tensor:
        return self._open(key).get_tensor(key)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _urm_config(name: str, folder: Path) -> URMConfig:
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{name} is a PEFT adapter: merge it into its model (`merge_and_unload`) and save that first.")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{name} has no config.json: it is not a saved model.")
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type != URMConfig.model_type:
        raise ValueError(f"{name} is not a URM: its `model_type` is {model_type!r}, not {URMConfig.model_type!r}.")
    config = URMConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(f"{name} is quantised: its weights cannot be averaged. Merge the unquantised model.")
    return config


def _weight_files(name: str, folder: Path) -> dict[str, str]:
    """The file of each tensor."""
    if (folder / WEIGHTS).is_file():
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return dict.fromkeys(file.keys(), WEIGHTS)
    files = _read_json(folder / INDEX).get("weight_map", {})
    if not files:
        found = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
        raise ValueError(
            f"{name} has neither {WEIGHTS} nor {INDEX}{f', only {found}' if found else ''}. Pickled weights are never "
            "loaded: save the model again with `save_pretrained`."
        )
    for file in sorted(set(files.values())):
        if Path(file).name != file or not (folder / file).is_file():
            raise FileNotFoundError(f"{name} is incomplete: {INDEX} names {file!r}, which is not there.")
    return files


def _describe_tokenizer(folder: Path) -> dict[str, Any]:
    """All that decides about the ids of a conversation; missing files are None."""
    fast, settings = _read_json(folder / "tokenizer.json"), _read_json(folder / "tokenizer_config.json")
    # `padding` and `truncation` are left over from the last call, not part of the tokenizer
    described = {f"tokenizer.json: {key}": fast[key] for key in fast if key not in ("padding", "truncation")}
    for name in VOCABULARY_FILES:
        described[name] = (folder / name).read_bytes() if (folder / name).is_file() else None
    for name in TOKEN_SETTINGS:
        token = settings.get(name)
        described[name] = token.get("content") if isinstance(token, dict) else token
    template = folder / "chat_template.jinja"
    in_json = _read_json(folder / "chat_template.json").get("chat_template", settings.get("chat_template"))
    described["chat template"] = template.read_text(encoding="utf-8") if template.is_file() else in_json
    return described


def _check_weights(names: list[str], weights: Sequence[float] | None) -> list[float]:
    if len(names) < 2:
        raise ValueError(f"`checkpoints` must name at least two models, got {names}.")
    if weights is None:
        return [1 / len(names)] * len(names)
    if len(weights) != len(names):
        raise ValueError(f"`weights` needs one number for each of the {len(names)} checkpoints, got {list(weights)}.")
    if not all(weight >= 0 for weight in weights) or not abs(sum(weights) - 1) <= 1e-6:
        raise ValueError(f"`weights` must not be negative and must sum to 1, got {list(weights)}: {sum(weights)}.")
    return [weight / sum(weights) for weight in weights]


def _check_members(members: list[_Member], log_std: str | None) -> str:
    """Refuses members that have no meaningful mean; returns how log stds are merged."""
    for field in HEAD_FIELDS:
        _require_equal(members, f"`{field}`", lambda member, field=field: getattr(member.config, field))
    _require_equal_keys(members, "`backbone_config.{}`", lambda member: _architecture(member.config))
    _require_equal_keys(members, "the tokenizer ({})", lambda member: member.tokenizer)
    _require_equal_keys(members, "the shape and dtype of {}", lambda member: member.tensors)
    _check_statistics(members)
    log_std = _check_log_std(members, log_std)
    for j, member in enumerate(members):
        for other in members[:j]:
            # the head first: as a rule its first tensor differs, and nothing more is read
            if all(torch.equal(member.tensor(key), other.tensor(key)) for key in sorted(member.files, reverse=True)):
                raise ValueError(f"{other.name} and {member.name} have identical weights: merging would do nothing.")
    return log_std


def _architecture(config: URMConfig) -> dict[str, Any]:
    fields = config.backbone_config.to_dict()
    ignored = ("_", "output_")
    return {k: v for k, v in fields.items() if k not in NOT_ARCHITECTURE and "drop" not in k and not k.startswith(ignored)}


def _require_equal(members: list[_Member], what: str, value_of: Callable[[_Member], Any]):
    ours = value_of(members[0])
    for member in members[1:]:
        theirs = value_of(member)
        if theirs != ours:
            texts = [str(ours), str(theirs)]
            start = len(commonprefix(texts)) if max(map(len, texts)) > 200 else 0  # where long texts part
            ours, theirs = (f"{'...' if start else ''}{text[start : start + 200]}" for text in texts)
            raise ValueError(f"Members differ in {what}: {members[0].name} has {ours}, {member.name} has {theirs}.")


def _require_equal_keys(members: list[_Member], what: str, value_of: Callable[[_Member], dict[str, Any]]):
    tables = {id(member): value_of(member) for member in members}
    for key in dict.fromkeys(key for table in tables.values() for key in table):
        _require_equal(members, what.format(key), lambda member, key=key: tables[id(member)].get(key, "none"))
