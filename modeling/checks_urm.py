"""
What is looked at before a checkpoint is built: files that others made may be damaged, or mean harm.

Nothing here builds a model or runs code of a checkpoint. This file travels with every checkpoint.
"""

import json
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

# The largest that anybody published have a few hundred layers and experts. Building takes milliseconds for each, so
# that a number with some zeros too many would keep a machine busy for days.
MOST_PARTS = 4096
PART_COUNTS = re.compile(r"(^|_)(layers?|experts|blocks|heads|groups|members)$")
WIDEST = 2**26
WIDTHS = re.compile(r"(^|_)(size|dim|width|embd|inner|model)$")
WIDTHS_BESIDE_HIDDEN = ("vocab_size", "intermediate_size", "gating_hidden_size", "hidden_size")
KERNELS = re.compile(
    r"(attn|attention|experts)_implementation(_internal)?$"
)  # read by transformers 4 from config.json
MOST_NUMBERS_PER_BYTE = 16  # packed weights have up to 8 in a byte
LARGEST_JSON = 2**28  # bytes; tokenizers of a quarter of a million words take some 2**25
MOST_MODULES_NAMED = 4096
LONGEST_PATTERN = 1000


def check_folder(folder: str | os.PathLike[str]):
    """
    Refuses a folder with an entry that is neither a file nor a folder: to open a pipe would wait for ever.

    Raises:
        ValueError: names the entry.
    """
    with os.scandir(os.fspath(folder)) as entries:
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                raise ValueError(f"{entry.path} is a link that leads nowhere: remove it, or copy the file.") from error
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ValueError(f"{entry.path} is a pipe, socket or device, not a file: remove it.")


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """
    A JSON file whose content is an object.

    Raises:
        ValueError: not a file, not UTF-8, not JSON, or something else than an object; the file is named.
    """
    if not os.path.isfile(path):
        raise ValueError(f"{path} is not a file.")
    if os.path.getsize(path) > LARGEST_JSON:
        raise ValueError(f"{path} has {os.path.getsize(path):,} bytes, more than such a file ever needs.")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}). Save or download it again.") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} is damaged: its content must be an object, not a {kind}. Save or download it again.")
    return content


def check_config(config: dict[str, Any], name: str):
    """
    Refuses a config.json that asks for code of another repository, or for sizes that no model has.

    Args:
        config (`dict`): its content, with configurations inside it. name (`str`): what an error calls the checkpoint.

    Raises:
        ValueError: the field and its value.
    """
    for key, value in config.items():
        if isinstance(value, dict):
            check_config(value, name)
        elif isinstance(value, str) and "/" in value and KERNELS.search(key):
            raise ValueError(
                f"config.json of {name} asks for the code of another repository: `{key}` is {value!r}. Remove it "
                "there; to use a kernel that you trust, pass `attn_implementation` yourself."
            )
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(key, value, name)


def _check_number(key: str, value: float, name: str):
    most = MOST_PARTS if PART_COUNTS.search(key) else WIDEST if WIDTHS.search(key) else None
    if most is not None and not 0 <= value <= most:
        raise ValueError(f"config.json of {name} is damaged: `{key}` is {value}, and must be between 0 and {most:,}.")


def check_size(config: dict[str, Any], weights: list[str], name: str):
    """
    Refuses a config that describes a far larger model than its files hold: what is missing would be made up in memory.

    Args:
        config (`dict`): content of config.json. weights (`list[str]`): paths of its safetensors files.

    Raises:
        ValueError: the fields and their values.
    """
    most = MOST_NUMBERS_PER_BYTE * sum(map(os.path.getsize, weights)) + 2**20
    outer = {key: value for key, value in config.items() if not isinstance(value, dict)}
    for inner in (config, *(value for value in config.values() if isinstance(value, dict))):
        sizes = {key: value for key, value in (outer | inner).items() if isinstance(value, int)}
        hidden = sizes.get("hidden_size", 0)
        for key in WIDTHS_BESIDE_HIDDEN:
            if hidden * sizes.get(key, 0) > most:
                _refuse_size(name, most, f"`{key}` is {sizes[key]:,} and `hidden_size` {hidden:,}")
        layers = sizes.get("num_hidden_layers", 0)
        if layers * hidden**2 > 8 * most:  # some models run through the same layer many times
            _refuse_size(name, most, f"`num_hidden_layers` is {layers:,} and `hidden_size` {hidden:,}")


def _refuse_size(name: str, most: int, sizes: str):
    raise ValueError(
        f"config.json of {name} does not describe its weights, which have at most {most:,} numbers: {sizes}. Save or "
        "download it again."
    )


class LayoutDifference(NamedTuple):
    """
    How tensors differ from those that a config describes; empty, and its text too, where they do not.

    Args:
        missing, unexpected (`list[str]`): names.
        misshapen (`list`): (name, shape that it has, shape that it should have) of each.
    """

    missing: list[str]
    unexpected: list[str]
    misshapen: list[tuple[str, list[int], list[int]]]

    def __str__(self) -> str:
        shapes = [f"{name} {found} instead of {expected}" for name, found, expected in self.misshapen]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": shapes}
        return "; ".join(
            f"{kind}: {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            for kind, names in kinds.items()
            if names
        )


def compare_layouts(found: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]) -> LayoutDifference:
    """
    Args:
        found, expected (`Mapping[str, Sequence[int]]`): the shape of each tensor by its name.
    """
    both = [(name, list(found[name]), list(expected[name])) for name in sorted(found.keys() & expected.keys())]
    return LayoutDifference(
        sorted(expected.keys() - found.keys()),
        sorted(found.keys() - expected.keys()),
        [entry for entry in both if entry[1] != entry[2]],
    )


def check_adapter_config(adapter: dict[str, Any], name: str):
    """
    Refuses an adapter_config.json that makes old versions of peft import code, or that takes for ever to apply.

    Raises:
        ValueError: the field and its value.
    """
    if adapter.get("megatron_core") not in (None, "megatron.core"):  # imported by its name
        raise ValueError(
            f"adapter_config.json of {name} asks for the code {adapter['megatron_core']!r} (`megatron_core`): remove "
            "it there."
        )
    for key in ("target_modules", "modules_to_save", "exclude_modules", "layers_pattern"):
        value = adapter.get(key)
        if isinstance(value, str) and key != "modules_to_save":
            _check_pattern(value, key, name)
        elif isinstance(value, list) and len(value) > MOST_MODULES_NAMED:
            raise ValueError(f"adapter_config.json of {name}: `{key}` has {len(value):,} entries.")
        elif value is not None and not isinstance(value, (str, list)):
            raise ValueError(f"adapter_config.json of {name}: `{key}` must be a list of names, got {value!r:.100}.")
    rank = adapter.get("r")
    if rank is not None and (not isinstance(rank, int) or not 0 < rank <= WIDEST):
        raise ValueError(f"adapter_config.json of {name} is damaged: `r` is {rank!r:.100}.")


def _check_pattern(pattern: str, key: str, name: str):
    """
    A regular expression for names of modules. One that repeats what it repeats already, `(a+)+`, may try more ways
    than there are atoms before it says that a name does not match.
    """
    repeated_group = re.search(r"[+*}][^()]*\)\s*[+*{]", pattern)
    alternatives = re.search(r"\|[^()]*\)\s*[+*{]", pattern)
    if len(pattern) > LONGEST_PATTERN or repeated_group or alternatives:
        raise ValueError(
            f"adapter_config.json of {name}: the pattern `{key}`, {pattern!r:.100}, may take for ever. List the names."
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"adapter_config.json of {name}: `{key}` is not a pattern ({error}).") from error


_loading = threading.RLock()


@contextmanager
def load_alone(name: str) -> Iterator[None]:
    """
    Around `from_pretrained`: one model at a time, whichever threads ask, and damage is explained.

    While transformers loads, it replaces functions that belong to the whole process (`torch.nn.init`, `tie_weights`,
    the default dtype), and then puts back what it found. Of two loads that overlap, one finds the replacements and
    puts them back for good, after which `torch.nn.init` leaves loaded weights as they are.
    """
    with _loading, explain_damage(name):
        yield


@contextmanager
def explain_damage(what: str) -> Iterator[None]:
    """
    Within it, whatever the libraries raise over a damaged file becomes a ValueError that names the checkpoint.

    They read files of others without looking: a wrong type in a config is an AttributeError there, a cut file an error
    of the safetensors library, and garbage in tokenizer.json a plain Exception, or a panic that is not even that.
    """
    try:
        yield
    except (ImportError, MemoryError, OSError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise  # nothing wrong with the files, or said with the file's name already
    except ValueError as error:
        if what in str(error):
            raise
        raise ValueError(f"{what}: {error}") from error
    except BaseException as error:
        text = " ".join(str(error).split())
        if "meta device context" in text:  # said of the caller's program, not of the files
            raise
        told = text if len(text) < 300 else f"{text[:300]}…"
        raise ValueError(
            f"{what} cannot be loaded, its files are damaged or do not fit each other ({type(error).__name__}: "
            f"{told}). Save or download it again."
        ) from error
