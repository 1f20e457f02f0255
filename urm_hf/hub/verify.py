"""Whether a model, in a folder or on the Hub, is complete, is what this package makes, and scores as it once did."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from urm_hf import __version__
from urm_hf.checkpoints.files import download, read_json, weight_files
from urm_hf.hub.adapter_base import is_pinned
from urm_hf.hub.errors import one_line
from urm_hf.hub.folder import SCORES, ModelFolder, code_files, installed_code, read_folder
from urm_hf.hub.reference import ATOL, CONVERSATIONS, RewardScorer, largest_difference, load_scorer, weight_hashes
from urm_hf.modeling.members_urm import ADAPTER_PREFIX, ADAPTER_WEIGHTS, HEAD


@dataclass
class Check:
    """One thing that was looked at. `ok` is None where there was nothing to look at; `detail` says what was found."""

    name: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "DIFFERS", None: "-"}[self.ok]
        return f"{mark:<8} {self.name:<12} {self.detail}"


def verify(
    model: str | Path, revision: str | None = None, *, atol: float | None = None, token: str | None = None
) -> Iterator[Check]:
    """
    Checks of a model, one after the other; each is yielded as soon as it is done.

    No code of the model runs: it is loaded with the installed classes, and its code files are compared with theirs.

    Args:
        model (`str` or `Path`): a folder, or a repository "org/name", which is downloaded.
        revision (`str`, *optional*): commit, branch or tag of a repository.
        atol (`float`, *optional*): largest difference from stored scores that is accepted, for rewards of size 1
            (larger ones: in proportion). Default: 1e-4 if they were computed in float32, else what their dtype
            resolves.
        token (`str`, *optional*): of an account that may read the repository.

    Yields:
        `Check`: what was looked at, whether it is as it should be, and what was found.

    Raises:
        ValueError: not a folder or repository of a URM or an ensemble.
        OSError: the repository cannot be had.
    """
    path = Path(model)
    if not path.is_dir():
        if str(model).count("/") != 1 or str(model).startswith((".", "/", "~")):
            raise ValueError(f"{model} is neither a folder nor the name of a repository, 'org/name'.")
        path = download(str(model), revision=revision, token=token)
    elif revision is not None:
        raise ValueError(f"`revision` {revision!r} is for a repository, but {model} is a folder.")
    folder = read_folder(path)
    yield _check_complete(folder)
    yield _code(folder)
    if not folder.is_ensemble:
        checks = list(_tensors(folder))
        yield from checks
        if checks[0].name != "tensors":  # else they cannot be read
            yield _check_head(folder)
    try:
        stored = read_json(path / SCORES)
    except ValueError as error:
        stored = {}
        yield Check("scores", False, one_line(error))
    dtype = stored.get("dtype", "float32")
    if dtype not in ATOL:
        yield Check("scores", False, f"{SCORES} was computed in {dtype!r}, which is none of {', '.join(ATOL)}")
        dtype, stored = "float32", {}
    try:
        scorer = load_scorer(path, dtype, token)
    except (ValueError, OSError) as error:
        yield Check("load", False, one_line(error))
        return
    yield Check("load", True, _loaded(folder, scorer))
    yield _check_rewards(scorer)
    yield _scores(folder, scorer, stored, atol)


def _check_complete(folder: ModelFolder) -> Check:
    problems = list(folder.problems)
    if not problems and folder.adapter is not None and not is_pinned(folder.adapter):
        problems.append(f"its base {folder.adapter['base_model_name_or_path']} is not pinned to a commit")
    if problems:
        return Check("files", False, "; ".join(problems))
    here = f"; on this machine only: {folder.unshared[0]}" if folder.unshared else ""
    size = sum((folder.path / name).stat().st_size for name in folder.files)
    return Check(
        "files", True, f"{len(folder.files)} files, {size / 1e6:.1f} MB; config, tokenizer, chat template{here}"
    )


def _code(folder: ModelFolder) -> Check:
    """The code that travels with the model against the installed one, byte for byte."""
    try:
        names = code_files(folder)
    except SyntaxError as error:
        return Check("code", False, f"not Python: {error}")
    differs = [
        name
        for name in names
        if (folder.path / name).is_file() and (folder.path / name).read_bytes() != installed_code(name)
    ]
    missing = [name for name in names if not (folder.path / name).is_file()]
    found = [f"{', '.join(differs)} not as in urm-hf {__version__}"] if differs else []
    found += [f"{', '.join(missing)} missing"] if missing else []
    return Check("code", not found, "; ".join(found) or f"{len(names)} files as in urm-hf {__version__}")


def _tensors(folder: ModelFolder) -> Iterator[Check]:
    """Every tensor is read once: the dtypes that the config names, float32 in the head, no NaN and no infinity."""
    dtypes: dict[str, list[str]] = {}
    broken, count, numbers = [], 0, 0
    try:
        for file in _weight_files(folder):
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  (it is no mapping)
                    tensor = tensors.get_tensor(key)
                    count, numbers = count + 1, numbers + tensor.numel()
                    dtypes.setdefault(str(tensor.dtype).removeprefix("torch."), []).append(key)
                    if tensor.is_floating_point() and not tensor.float().isfinite().all():
                        broken.append(key)
    except (ValueError, OSError, SafetensorError) as error:
        yield Check("tensors", False, str(error))
        return
    yield Check(
        "finite",
        not broken,
        f"NaN or infinity in {_some(broken)}" if broken else f"{count} tensors, {numbers:,} numbers",
    )
    head = [
        key
        for dtype, keys in dtypes.items()
        if dtype != "float32"
        for key in keys
        if key.removeprefix(ADAPTER_PREFIX).startswith(HEAD)
    ]
    quantised = bool(folder.config.get("quantization_config"))
    named = folder.config.get("dtype") or folder.config.get("torch_dtype") or "float32"
    other = [] if quantised else [k for d, keys in dtypes.items() if d not in (named, "float32") for k in keys]
    if head:
        yield Check("dtypes", False, f"the head must be float32: {_some(head)}")
    elif other:
        yield Check("dtypes", False, f"not {named}, as the config says: {_some(other)}")
    else:
        yield Check("dtypes", True, ", ".join(f"{len(keys)} in {dtype}" for dtype, keys in sorted(dtypes.items())))


def _weight_files(folder: ModelFolder) -> list[Path]:
    return weight_files("the model", folder.path) if folder.adapter is None else [folder.path / ADAPTER_WEIGHTS]


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _loaded(folder: ModelFolder, scorer: RewardScorer) -> str:
    kind = f"{len(folder.config['members'])} members" if folder.is_ensemble else "every key and shape fits"
    if folder.adapter is not None:
        kind = f"an adapter of {folder.adapter['base_model_name_or_path']}, {kind}"
    return f"{type(scorer.model).__name__}, {kind}; predicts {', '.join(scorer.attributes or [])}"


def _check_head(folder: ModelFolder) -> Check:
    """
    The head's statistics: numbers that a reward is made of, and that no load complains about.

    They stand in the weights and, for people and other tools, in the config; the two must agree.
    """
    tensors = _read_head(folder)
    problems = []
    for name, key in (("label_mean", "label_means"), ("label_std", "label_stds")):
        stored, told = tensors.get(name), folder.config.get(key)
        if stored is None or told is None:
            continue
        try:
            told_numbers = torch.tensor(told, dtype=torch.float32)
        except (TypeError, ValueError):
            problems.append(f"`{key}` of config.json is no list of numbers: {told!r}")
            continue
        if stored.shape != told_numbers.shape or not torch.allclose(
            stored.float(), told_numbers, rtol=1e-4, atol=1e-6
        ):
            problems.append(f"{HEAD}{name} is {stored.tolist()}, and `{key}` of config.json {told}")
    for name in ("label_std", "feature_scale"):
        values = tensors.get(name)
        if values is not None and not (values > 0).all():
            problems.append(f"{HEAD}{name} must be positive, its smallest is {values.min().item():.3g}")
    value = tensors.get("value.weight")
    if value is not None and not value.any():
        problems.append(f"{HEAD}value.weight is zero everywhere: every text gets the same rating")
    detail = "statistics as in the config, scales are positive"
    return Check("head", not problems, "; ".join(problems) or detail)


def _read_head(folder: ModelFolder) -> dict[str, torch.Tensor]:
    """The head's tensors by their names in `URMHead`."""
    head = {}
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (it is no mapping)
                name = key.removeprefix(ADAPTER_PREFIX)
                if name.startswith(HEAD):
                    head[name.removeprefix(HEAD)] = tensors.get_tensor(key)
    return head


def _check_rewards(scorer: RewardScorer) -> Check:
    """Whether the model answers at all: our fixed conversations, whatever scores are stored with it."""
    try:
        scores = scorer.score(list(CONVERSATIONS.values()))
    except ValueError as error:
        return Check("rewards", False, one_line(error))
    wrong, rewards = [], []
    for name, score in zip(CONVERSATIONS, scores, strict=True):
        means, stds = score.get("attribute_means") or {}, score.get("attribute_stds") or {}
        numbers = [score["reward"], score.get("reward_std", 0.0), *means.values(), *stds.values()]
        rewards.append(numbers[0])
        if not all(math.isfinite(number) for number in numbers):
            wrong.append(name)
    if wrong:
        return Check("rewards", False, f"numbers that are not finite for {_some(wrong)}")
    if max(rewards) == min(rewards):
        return Check("rewards", False, f"all {len(rewards)} conversations get the same reward, {rewards[0]:.4g}")
    return Check("rewards", True, f"{len(rewards)} conversations from {min(rewards):.3g} to {max(rewards):.3g}")


def _scores(folder: ModelFolder, scorer: RewardScorer, stored: dict[str, Any], atol: float | None) -> Check:
    """Today's scores of the stored conversations against the stored scores."""
    rows = stored.get("conversations")
    if not rows:
        return Check("scores", None, f"no {SCORES}: nothing to compare with (`urm push` writes it)")
    try:
        scores = scorer.score([row["messages"] for row in rows])
        size = max([1.0, *(abs(row["reward"]) for row in rows)])
        differences = [(*largest_difference(row, score), row["name"]) for row, score in zip(rows, scores, strict=True)]
    except ValueError as error:
        return Check("scores", False, one_line(error))
    except (TypeError, KeyError, AttributeError) as error:  # not what we wrote
        return Check("scores", False, f"{SCORES} is damaged ({type(error).__name__}: {error}): push the model again")
    limit = (ATOL[stored.get("dtype", "float32")] if atol is None else atol) * size
    worst, where, name = max(differences)
    if worst <= limit:
        return Check("scores", True, f"{len(rows)} conversations as stored, largest difference {worst:.1e}")
    detail = f"{where} of {name!r} differs by {worst:.3g}, more than {limit:.1g}"
    if stored.get("weights") and stored["weights"] != weight_hashes(folder.path):
        detail += f"; {SCORES} was written for other weights"
    return Check("scores", False, detail)
