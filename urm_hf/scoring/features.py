"""
Last hidden states of a frozen backbone, computed once and kept on disk.

A folder belongs to one state of the weights and one precision. In it each token sequence is found by its own hash, so
that datasets that overlap (epochs, splits, bootstraps, both stages) share the work, and other weights, another
tokenizer, template or truncation never meet old features. Files are written whole, every few thousand conversations:
a computation that was interrupted, however, goes on where it stopped, and what a killed one has left is removed.
"""

import hashlib
import io
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers.utils import ModelOutput

from urm_hf.checkpoints.files import explain_full_disk
from urm_hf.data.cache_folder import default_cache_dir
from urm_hf.data.outputs import remove_stale, replace_file
from urm_hf.data.progress import ProgressBar
from urm_hf.modeling import URMEnsemble
from urm_hf.scoring.engine.batches import Plan
from urm_hf.scoring.engine.model_pass import ModelPass

ROWS_PER_FILE = 2048


def weights_fingerprint(module: nn.Module) -> str:
    """A hash of all parameters and buffers of a module: names, dtypes, shapes and bytes."""
    digest = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        # as bytes: NumPy has no bfloat16
        digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sequence_key(ids: Sequence[int]) -> bytes:
    """The 16 bytes by which the features of a token sequence are found."""
    return hashlib.blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()


def deduplicate(sequences: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """
    Args:
        sequences (`Sequence[Sequence[int]]`): N token sequences, some of them perhaps several times.

    Returns:
        `tuple[list[tuple[int, ...]], list[int]]`: the distinct ones in order of appearance, and for each of the N its
        index among them.
    """
    seen: dict[tuple[int, ...], int] = {}
    indices = [seen.setdefault(tuple(sequence), len(seen)) for sequence in sequences]
    return list(seen), indices


class Features:
    """N pooled hidden states, each a row of one of several memory-mapped files. `features[indices]` is (k, H)."""

    def __init__(self, files: list[np.ndarray], file_of: np.ndarray, row_of: np.ndarray):
        self._files, self._file_of, self._row_of = files, file_of, row_of

    def __len__(self) -> int:
        return len(self._row_of)

    def __getitem__(self, indices: np.ndarray | slice) -> np.ndarray:
        file_of, row_of = self._file_of[indices], self._row_of[indices]
        gathered = np.empty((len(row_of), self._files[0].shape[1]), dtype=np.float32)  # (k, H)
        for file in np.unique(
            file_of
        ):  # one read of a memory map takes all its rows, in whatever order they are asked
            chosen = file_of == file
            gathered[chosen] = self._files[file][row_of[chosen]]
        return gathered


def pooled_features(
    model,
    sequences: Sequence[Sequence[int]],
    pad_token_id: int,
    cache_dir: str | Path | None = None,
    max_tokens_per_batch: int = 4096,
    description: str = "Hidden states",
    fingerprint: str | None = None,
) -> Features:
    """
    The pooled hidden states, float32, of N token sequences under a URM's backbone; only unknown ones are computed.

    Args:
        model ([`URMForRewardModeling`]): what its backbone gives is kept; common prefixes are computed once.
        sequences (`Sequence[Sequence[int]]`): N token sequences, as the model's encoder makes them.
        pad_token_id (`int`): for backbones that need padded batches.
        cache_dir (`str` or `Path`, *optional*, defaults to [`default_cache_dir`]`/features`): where they are kept.
        max_tokens_per_batch (`int`, *optional*, defaults to 4096): tokens that pass the backbone at once.
        description (`str`, *optional*, defaults to `"Hidden states"`): what the progress bar is called.
        fingerprint (`str`, *optional*): [`weights_fingerprint`] of the backbone, if it is known already.

    Returns:
        [`Features`]: N rows of H numbers, in the order of the sequences.

    Raises:
        ValueError: a hidden state is not finite.
    """
    # kernels of attention round differently, so features of one are not those of another
    precision = f"{model.model.dtype}-{model.config.backbone_config._attn_implementation}".removeprefix("torch.")
    root = Path(cache_dir) if cache_dir else default_cache_dir() / "features"
    folder = root / f"{fingerprint or weights_fingerprint(model.model)}-{precision}"
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder, "*.tmp")
    keys = [sequence_key(ids) for ids in sequences]
    known = _index(folder)
    missing = {key: ids for key, ids in zip(keys, sequences, strict=True) if key not in known}
    if missing:
        _compute(model, missing, pad_token_id, folder, max_tokens_per_batch, description)
        known = _index(folder)
    paths = sorted({known[key][0] for key in keys})
    number = {path: index for index, path in enumerate(paths)}
    files = [np.load(path, mmap_mode="r") for path in paths]
    file_of = np.array([number[known[key][0]] for key in keys])
    return Features(files, file_of, np.array([known[key][1] for key in keys]))


def output_of_cached(
    model, sequences: Sequence[Sequence[int]], pad_token_id: int, cache_dir: str | Path | None = None
) -> ModelOutput:
    """
    The output, in eval mode, of a URM, or of an ensemble on one backbone, from [`pooled_features`].

    Args:
        model ([`URMForRewardModeling`] or [`URMEnsemble`]): stays in eval mode.
        sequences (`Sequence[Sequence[int]]`): N token sequences.
        pad_token_id (`int`): for backbones that need padded batches.
        cache_dir (`str` or `Path`, *optional*): as of [`pooled_features`].

    Returns:
        `ModelOutput`: of N rows, `logits` (N, 1) and what else the model gives.

    Raises:
        ValueError: a hidden state is not finite.
    """
    member = model.members[0] if isinstance(model, URMEnsemble) else model
    hidden = torch.from_numpy(pooled_features(member, sequences, pad_token_id, cache_dir)[:])
    with torch.inference_mode():
        return model.eval()(pooled_hidden=hidden)


def _index(folder: Path) -> dict[bytes, tuple[Path, int]]:
    """Where each known sequence is: file and row."""
    index = {}
    # found by the keys: features without keys are those of a write that was interrupted
    for path in sorted(folder.glob("*.keys.npy")):
        features = path.with_name(path.name.replace(".keys.npy", ".features.npy"))
        for row, key in enumerate(np.load(path)):
            index[key.tobytes()] = (features, row)
    return index


def _compute(model, missing: dict[bytes, Sequence[int]], pad_token_id: int, folder: Path, max_tokens: int, title: str):
    keys, sequences = list(missing), list(missing.values())
    was_training = model.training
    model.eval()
    waiting: list[bytes] = []
    rows: list[np.ndarray] = []
    with ProgressBar(total=sum(map(len, sequences)), unit="tok", unit_scale=True, desc=title) as bar:
        for batch, (output,), _ in ModelPass(max_tokens, pad_token_id).batches(Plan.of(sequences), [model]):
            waiting += [keys[index] for index in batch]
            rows.append(output.pooled_hidden.float().cpu().numpy())
            if not np.isfinite(rows[-1]).all():
                # looked at before it is kept: a cache would hand the fault on to every later run
                raise ValueError("the backbone gives hidden states that are not finite; try another `dtype`.")
            bar.update(sum(len(sequences[index]) for index in batch))
            if len(waiting) >= ROWS_PER_FILE:
                _write(folder, waiting, rows)
                waiting, rows = [], []
    if waiting:
        _write(folder, waiting, rows)
    model.train(was_training)


def _write(folder: Path, keys: Sequence[bytes], features: Sequence[np.ndarray]):
    """Features first, then the keys that make them known; both appear whole or not at all."""
    name = uuid.uuid4().hex[:12]  # drawn, not counted: several processes may add to one folder
    known = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
    for kind, array in (("features", np.concatenate(features)), ("keys", known)):
        content = io.BytesIO()
        np.save(content, array)
        path = folder / f"{name}.{kind}.npy"
        with explain_full_disk(path):
            replace_file(path, content.getvalue())
