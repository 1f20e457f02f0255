"""The files of a checkpoint on disk: which hold its weights, how its tensors are read and how a new folder appears."""

import errno
import glob
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock, Timeout
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from urm_hf.data.outputs import check_writable, replace_file
from urm_hf.data.progress import ProgressBar
from urm_hf.modeling.backbone_urm import INDEX, WEIGHTS, read_weight_map
from urm_hf.modeling.base_urm import BASE_WEIGHTS
from urm_hf.modeling.checks_urm import check_config, check_folder, check_size, compare_layouts, read_json_object
from urm_hf.modeling.hub_place_urm import check_name, describe_unreachable

UNFINISHED, LOCK = ".unfinished", "lock"  # of temporary folders
TOKENIZER = ["tokenizer*", "special_tokens*", "added_tokens*", "chat_template*", "vocab.*", "merges.txt", "spiece.*"]
LICENCES = ["LICEN[CS]E*", "NOTICE*", "USE_POLICY*"]
TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "inline_container", "iostream error")  # in its messages
NUMPY_CANNOT_WRITE = re.compile(r"\d+ requested and \d+ written")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, largest size of a file
MAY_BE_FULL = "the disk may be full. Free space there, or write elsewhere."
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_json(path: Path) -> dict[str, Any]:
    """Its content, an object; empty where there is no such file. A ValueError names a damaged one."""
    return read_json_object(path) if path.is_file() else {}


def write_json(path: Path, content: dict[str, Any]):
    """
    An object as JSON with sorted keys; see `write_file`.

    Raises:
        ValueError: a number in it is not finite: `NaN` is no JSON, and other readers refuse the whole file.
    """
    write_file(path, dump_json(content, path, indent=2, sort_keys=True))


def dump_json(content: dict[str, Any], path: Path, **settings: Any) -> bytes:
    """An object as JSON, for the file `path`; a ValueError names a number in it that is not finite."""
    try:
        return (json.dumps(content, allow_nan=False, **settings) + "\n").encode()
    except ValueError as error:
        wrong = next(_find_nonfinite(content), None)
        if wrong is None:
            raise
        raise ValueError(f"{path} is not written: `{wrong[0]}` would be {wrong[1]}, which is no JSON.") from error


def _find_nonfinite(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """(key, number) of all that are NaN or infinite."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _find_nonfinite(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _find_nonfinite(inner, f"{key}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, value


def write_file(path: Path, content: bytes):
    """
    A file that appears whole, or stays as it was. A link in its place is replaced, what it leads to not touched.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    try:
        replace_file(path, content, prefix=".")
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; nothing was changed", str(path)) from error


def weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files of the checkpoint `name` in `folder`, one or several; pickled weights are not taken."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        missing = f"{name} has neither {WEIGHTS} nor {INDEX}"
        raise ValueError(f"{missing}; pickled weights (.bin) are never loaded. Save it again with `save_pretrained`.")
    files = sorted(set(read_weight_map(str(folder / INDEX)).values()))
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise FileNotFoundError(f"{name} is incomplete: {INDEX} names {file!r}, which is not there.")
        if not file.endswith(".safetensors"):
            raise ValueError(f"{INDEX} of {name} names {file!r}, which is not a safetensors file.")
    return [folder / file for file in files]


@contextmanager
def explain_full_disk(place: str | Path) -> Iterator[None]:
    """
    Within it, what libraries raise over a file that cannot be written becomes an OSError that names the place.

    They say it in their own ways: safetensors by an exception that is no OSError, torch by a RuntimeError on positions
    in its zip file, and Python by an OSError that does not know which file it was.

    Args:
        place (`str` or `Path`): the file or folder that is written.
    """
    try:
        yield
    except SafetensorError as error:
        if "deserializ" in str(error):
            raise  # a damaged file that was read
        raise OSError(f"{place} cannot be written: {error}. Free space there, or write elsewhere.") from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in TORCH_CANNOT_WRITE):
            raise
        raise OSError(f"{place} cannot be written, {MAY_BE_FULL}") from error
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(place)) from error
        if NUMPY_CANNOT_WRITE.search(str(error)):
            raise OSError(
                f"{place} cannot be written, the disk may be full. Free space, or write elsewhere."
            ) from error
        raise


@contextmanager
def appears_whole(output_dir: str | Path) -> Iterator[Path]:
    """
    A temporary folder that becomes `output_dir` at the end, or is removed after an error.

    One that a killed process left beside `output_dir`, with all weights perhaps, is removed by the next that writes
    there: each holds a lock on its folder for as long as it lives.
    """
    output = Path(output_dir).resolve()
    check_new_folder(output_dir)
    output.parent.mkdir(parents=True, exist_ok=True)
    # `UNFINISHED` tells `_remove_abandoned` which folders are ours
    beside = TemporaryDirectory(prefix=f".{output.name}.", suffix=UNFINISHED, dir=output.parent)
    with beside as temporary, FileLock(Path(temporary) / LOCK):
        folder = Path(temporary) / output.name
        folder.mkdir()  # with the usual permissions, unlike its parent
        with explain_full_disk(output_dir):
            yield folder
        if output.exists():
            output.rmdir()  # an error if it is no longer empty
        folder.rename(output)


def check_new_folder(output_dir: str | Path):
    """
    Whether [`appears_whole`] may write a folder: for commands that compute long before they do.

    Raises:
        FileExistsError: something is there already. OSError: it cannot be written.
    """
    output = Path(output_dir).resolve()
    _remove_abandoned(output)  # also where the output is there: its writer may have been killed as its last act
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"`output_dir` {output_dir} exists and is not an empty folder; name a new one.")
    check_writable(output.parent)


def _remove_abandoned(output: Path):
    """Removes the temporary folders of `output` whose process is gone."""
    for temporary in output.parent.glob(f".{glob.escape(output.name)}.*{UNFINISHED}"):
        lock = temporary / LOCK
        if temporary.is_symlink():  # not ours
            continue
        if not lock.is_file():
            # killed before it had its lock, or about to take it, which makes the folder anew
            with suppress(OSError):
                temporary.rmdir()
            continue
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout:
            continue
        shutil.rmtree(temporary, ignore_errors=True)


class Checkpoint:
    """
    A checkpoint in a folder or on the Hub, unread: its config.json and the layout of its tensors.

    Attributes:
        name, revision: as named by the user; the commit of a repository, None for a folder.
        config (`dict`): config.json as it stands. tensors (`dict`): without data, by key.

    Raises:
        FileNotFoundError: no such folder, or files are missing. ValueError: pickled, damaged or quantised weights.
    """

    takes_heads_alone = False  # whether heads that name their backbone are taken as they are

    def __init__(
        self,
        name: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ):
        self.name, self.revision, self.folder = str(name), None, Path(name)
        if self.folder.is_dir():
            if revision is not None:
                raise ValueError(f"`revision` pins {name} to {revision!r}, but it is a folder: leave it out.")
            check_folder(self.folder)
        else:
            check_name(self.name)
            wanted = ["config.json", INDEX, "*.safetensors", *TOKENIZER, *LICENCES]
            hub: dict[str, Any] = {"token": token, "local_files_only": local_files_only, "allow_patterns": wanted}
            self.folder = download(self.name, revision=revision, **hub)
            self.revision = self.folder.name  # the commit
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(f"{name} has no config.json. If it is an adapter, merge it into its model first.")
        self.config = read_json(self.folder / "config.json")
        check_config(self.config, self.name)
        if self.config.get(BASE_WEIGHTS) and not self.takes_heads_alone:
            raise ValueError(
                f"{name} holds heads alone, and names its backbone: here both are needed in one folder. Train it with "
                "`--save_backbone`; or load it, call `model.refer_to_base(None)`, and save it."
            )
        if self.config.get("quantization_config"):
            raise ValueError(f"{name} is quantised: convert the model that it was made from.")
        self.tensors: dict[str, Tensor] = {}
        self._files: dict[str, Path] = {}

    def index(self):
        """Reads the names, shapes and dtypes of all tensors."""
        files = weight_files(self.name, self.folder)
        check_size(self.config, list(map(str, files)), self.name)
        for path in files:
            with _open_weights(path) as file:
                for key in file.keys():  # noqa: SIM118  (it is no mapping)
                    info, self._files[key] = file.get_slice(key), path
                    if info.get_dtype() not in DTYPES:
                        raise ValueError(f"{key} of {self.name} is {info.get_dtype()}; known are {[*DTYPES]}.")
                    self.tensors[key] = torch.empty(info.get_shape(), dtype=DTYPES[info.get_dtype()], device="meta")

    def tensor(self, key: str) -> Tensor:
        with _open_weights(self._files[key]) as file:
            tensor = file.get_tensor(key)
        if not tensor.isfinite().all():
            raise ValueError(f"{key} of {self.name} has values that are not finite.")
        return tensor

    def check_layout(self, shapes: dict[str, torch.Size], what: str):
        """A ValueError unless the tensors are exactly these."""
        difference = compare_layouts({key: tensor.shape for key, tensor in self.tensors.items()}, shapes)
        if any(difference):
            raise ValueError(f"The weights of {self.name} are not those of {what} with its config. {difference}.")

    def copy_companions(self, folder: Path):
        """Copies tokenizer, chat template and licences."""
        _copy_files(self.folder, [*TOKENIZER, *LICENCES], folder)


def copy_licences(name: str, folder: Path, revision: str | None = None):
    """
    Copies the licences of a model to a folder that is made from it. Not its card, which describes another model.

    Args:
        name (`str`): a folder, or a repository of the Hub, which was loaded before.
        folder (`Path`): where they go.
        revision (`str`, *optional*): commit, branch or tag of a repository.
    """
    source = Path(name) if Path(name).is_dir() else download(name, revision, allow_patterns=LICENCES)
    _copy_files(source, LICENCES, folder)


def _copy_files(source: Path, patterns: list[str], folder: Path):
    for path in (path for pattern in patterns for path in source.glob(pattern)):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


@contextmanager
def _open_weights(path: Path):
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def write_shards(
    folder: Path,
    tensors: dict[str, Tensor],
    read: Callable[[str], Tensor],
    max_shard_size: int | str = "5GB",
    progress: bool = False,
    title: str = "Converting",
):
    """
    Writes safetensors files, and an index if there are several; one of them is held in memory at a time.

    Args:
        tensors: names, shapes and dtypes; on the meta device. read: gives the tensor of a name.
        progress: shows a progress bar, with this title.
    """
    plan = split_torch_state_dict_into_shards(tensors, max_shard_size=max_shard_size)
    with ProgressBar(total=len(tensors), unit="tensor", desc=title, disable=not progress) as bar:
        for file, keys in plan.filename_to_tensors.items():
            shard = {}
            for key in keys:
                shard[key] = read(key).contiguous()
                bar.update()
            save_file(shard, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        write_json(folder / INDEX, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename})


def download(name: str, revision: str | None = None, **hub: Any) -> Path:
    """
    The folder of a whole repository, from the Hub or its cache.

    Args:
        name (`str`): of the repository. revision (`str`, *optional*): its commit, branch or tag. hub: arguments of
            `snapshot_download`.

    Raises:
        OSError: it is not there, or the Hub cannot be asked and the cache does not have it.
    """
    try:
        return Path(snapshot_download(name, revision=revision, **hub))
    except LocalEntryNotFoundError as error:  # its message names no repository
        raise OSError(describe_unreachable(name)) from error
