"""The files of a checkpoint on disk: which hold its weights, how its tensors are read and how a new folder appears."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ["tokenizer*", "special_tokens*", "added_tokens*", "chat_template*", "vocab.*", "merges.txt", "spiece.*"]
LICENCES = ["LICEN[CS]E*", "NOTICE*", "USE_POLICY*"]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_json(path: Path) -> dict[str, Any]:
    """Its content; empty where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from error


def write_json(path: Path, content: dict[str, Any]):
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files of the checkpoint `name` in `folder`, one or several; pickled weights are not taken."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    files = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
    if not files:
        missing = f"{name} has neither {WEIGHTS} nor {INDEX}"
        raise ValueError(f"{missing}; pickled weights (.bin) are never loaded. Save it again with `save_pretrained`.")
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise FileNotFoundError(f"{name} is incomplete: {INDEX} names {file!r}, which is not there.")
    return [folder / file for file in files]


@contextmanager
def appears_whole(output_dir: str | Path) -> Iterator[Path]:
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


class Checkpoint:
    """
    A checkpoint in a folder or on the Hub, unread: its config.json and the layout of its tensors.

    Attributes:
        name, revision: as named by the user; the commit of a repository, None for a folder.
        config (`dict`): config.json as it stands. tensors (`dict`): without data, by key.

    Raises:
        FileNotFoundError: no such folder, or files are missing. ValueError: pickled, damaged or quantised weights.
    """

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
        elif self.folder.is_absolute() or self.name.startswith(".") or self.name.count("/") > 1:
            raise FileNotFoundError(f"{name}: no such folder.")
        else:
            wanted = ["config.json", INDEX, "*.safetensors", *TOKENIZER, *LICENCES]
            hub: dict[str, Any] = {"token": token, "local_files_only": local_files_only, "allow_patterns": wanted}
            self.folder = Path(snapshot_download(self.name, revision=revision, **hub))
            self.revision = self.folder.name  # the commit
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(f"{name} has no config.json. If it is an adapter, merge it into its model first.")
        self.config = read_json(self.folder / "config.json")
        if self.config.get("quantization_config"):
            raise ValueError(f"{name} is quantised: convert the model that it was made from.")
        self.tensors: dict[str, Tensor] = {}
        self._files: dict[str, Path] = {}

    def index(self):
        """Reads the names, shapes and dtypes of all tensors."""
        for path in weight_files(self.name, self.folder):
            with _opened(path) as file:
                for key in file.keys():  # noqa: SIM118  (it is no mapping)
                    info, self._files[key] = file.get_slice(key), path
                    if info.get_dtype() not in DTYPES:
                        raise ValueError(f"{key} of {self.name} is {info.get_dtype()}; known are {[*DTYPES]}.")
                    self.tensors[key] = torch.empty(info.get_shape(), dtype=DTYPES[info.get_dtype()], device="meta")

    def tensor(self, key: str) -> Tensor:
        with _opened(self._files[key]) as file:
            tensor = file.get_tensor(key)
        if not tensor.isfinite().all():
            raise ValueError(f"{key} of {self.name} has values that are not finite.")
        return tensor

    def check_layout(self, shapes: dict[str, torch.Size], what: str):
        """A ValueError unless the tensors are exactly these."""
        missing = sorted(shapes.keys() - self.tensors.keys())
        unexpected = sorted(self.tensors.keys() - shapes.keys())
        both = sorted(shapes.keys() & self.tensors.keys())
        wrong = [
            f"{key} {list(self.tensors[key].shape)} instead of {list(shapes[key])}"
            for key in both
            if self.tensors[key].shape != shapes[key]
        ]
        found = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
        listed = "; ".join(
            f"{kind}: {', '.join(keys[:5])}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            for kind, keys in found.items()
            if keys
        )
        if listed:
            raise ValueError(f"The weights of {self.name} are not those of {what} with its config. {listed}.")

    def copy_companions(self, folder: Path):
        """Copies tokenizer, chat template and licences."""
        for path in (path for pattern in [*TOKENIZER, *LICENCES] for path in self.folder.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


@contextmanager
def _opened(path: Path):
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
    with tqdm(total=len(tensors), unit="tensor", desc=title, disable=not progress) as bar:
        for file, keys in plan.filename_to_tensors.items():
            shard = {}
            for key in keys:
                shard[key] = read(key).contiguous()
                bar.update()
            save_file(shard, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        write_json(folder / INDEX, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename})
