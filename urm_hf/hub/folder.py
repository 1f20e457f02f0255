"""A saved URM, adapter or ensemble as a folder: which of its files belong on the Hub, what it lacks to be complete."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from urm_hf import modeling
from urm_hf.checkpoints.files import INDEX, LICENCES, TOKENIZER, WEIGHTS, read_json, weight_files
from urm_hf.data.seen import without_digests
from urm_hf.modeling.base_urm import BASE_WEIGHTS
from urm_hf.modeling.checks_urm import check_adapter_config, check_config, check_folder, explain_damage
from urm_hf.modeling.configuration_urm import AUTO_MAP, URMConfig
from urm_hf.modeling.configuration_urm_ensemble import ENSEMBLE_AUTO_MAP, URMEnsembleConfig
from urm_hf.modeling.fingerprint_urm import BASE_RECORD
from urm_hf.modeling.member_names_urm import absolute_name
from urm_hf.modeling.members_urm import ADAPTER_CONFIG, ADAPTER_WEIGHTS

CARD, SCORES, PLOT = "README.md", "urm_reference_scores.json", "urm_reference_scores.png"
KEPT_RESULTS = "urm_card_results.json"  # of a push, for the next one; the card says what it holds
AUTO_MAPS = {URMConfig.model_type: AUTO_MAP, URMEnsembleConfig.model_type: ENSEMBLE_AUTO_MAP}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.msgpack", "*.h5")
TRAINERS_PICKLE = "training_args.bin"  # every transformers Trainer leaves one: not uploaded, no reason to refuse
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*")
COMPANIONS = (*TOKENIZER, *LICENCES, "*.model", CARD, SCORES, "*.png", "*.jpg", "*.svg")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
COMMIT = re.compile("[0-9a-f]{40}")
DATA_SUFFIXES = (".jsonl", ".json", ".gz", ".parquet", ".csv", ".arrow")


@dataclass
class ModelFolder:
    """
    Args:
        config: what `config.json` holds. adapter: what `adapter_config.json` holds, if it is the folder of an adapter.
        files: paths, relative to the folder, of what is uploaded. left_out: those of what is not.
        problems: why the folder is not complete; empty if it is.
        unshared: why only this machine can load it: members or a backbone that are folders here.
    """

    path: Path
    config: dict[str, Any]
    adapter: dict[str, Any] | None = None
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unshared: list[str] = field(default_factory=list)

    @property
    def is_ensemble(self) -> bool:
        return self.config["model_type"] == URMEnsembleConfig.model_type


def read_folder(path: str | Path) -> ModelFolder:
    """
    What of a folder goes to the Hub.

    Raises:
        ValueError: no such folder, or not one of a URM or an ensemble. What else is wrong is in `problems`.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder.")
    check_folder(path)
    with explain_damage(str(path)):
        return _read_folder(path)


def _read_folder(path: Path) -> ModelFolder:
    whole = (path / WEIGHTS).is_file() or (path / INDEX).is_file()
    adapter = read_json(path / ADAPTER_CONFIG) if (path / ADAPTER_CONFIG).is_file() and not whole else None
    if adapter is not None and not (path / "config.json").is_file():
        raise ValueError(
            f"{path} has an adapter, but no config.json of its URM: if it is an adapter of one, "
            "`urm_hf.checkpoints.adapters.complete_adapter(folder, model.config)` writes it."
        )
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} has no config.json: save a model there with `save_pretrained`.")
    config = read_json(path / "config.json")
    if str(config.get("model_type")) not in AUTO_MAPS:
        raise ValueError(
            f"{path}/config.json is of type {config.get('model_type')!r}, neither a URM nor an ensemble of URMs."
        )
    check_config(config, str(path))
    if adapter is not None:
        check_adapter_config(adapter, str(path))
    folder = ModelFolder(path, config, adapter)
    _take_code(folder)
    if folder.is_ensemble:
        _check_members(folder)
    elif folder.adapter is not None:
        _take_adapter(folder, folder.adapter)
    else:
        _take_weights(folder)
    _check_tokenizer(folder)
    _check_companions(folder)
    return folder


def installed_code(name: str) -> bytes:
    """The installed version of a code file that travels with checkpoints; empty if it has no such file."""
    file = Path(modeling.__file__).with_name(name)
    return file.read_bytes() if file.is_file() else b""


def code_files(folder: ModelFolder) -> list[str]:
    """
    The code files that a config points to, with all that they import; also those that are not there. An adapter's
    config alone is read by others: its weights need this package, or an ensemble's code.
    """
    auto_map = AUTO_MAPS[folder.config["model_type"]]
    references = auto_map.values() if folder.adapter is None else [auto_map["AutoConfig"]]
    found = sorted({f"{reference.split('.')[0]}.py" for reference in references})
    for name in found:  # grows meanwhile
        source = (folder.path / name).read_bytes() if (folder.path / name).is_file() else installed_code(name)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and f"{node.module}.py" not in found:
                found.append(f"{node.module}.py")
    return sorted(found)


def is_pickle(name: str) -> bool:
    """Whether a file of this name may run code where it is loaded."""
    return any(fnmatch(name, pattern) for pattern in PICKLES)


def local_paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, path) of every string in a config that is a path on this machine."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from local_paths(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from local_paths(inner, f"{key}[{number}]")
    elif isinstance(value, str) and _is_local(value, key):
        yield key, value


def without_local_paths(value: Any, key: str = "") -> Any:
    """
    A config with the paths in what is only for people reduced to their last part; the model does not read them. Nor
    does it need the digests of its training rows, by which others could tell whether a text was among them.
    """
    if isinstance(value, dict):
        inner = without_digests(value) if key == "training" else value
        return {k: without_local_paths(v, f"{key}.{k}" if key else str(k)) for k, v in inner.items()}
    if isinstance(value, list):
        return [without_local_paths(v, f"{key}[{number}]") for number, v in enumerate(value)]
    informs = key.startswith(("training", BASE_RECORD)) or key.endswith("name_or_path")
    return PurePath(value.replace("\\", "/")).name if informs and _is_local(value, key) else value


def _is_local(value: Any, key: str = "") -> bool:
    if not isinstance(value, str):
        return False
    if re.match(r"([/~].|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)", value):
        return True
    return key.startswith("training") and "/" in value and value.lower().endswith(DATA_SUFFIXES)


def _take_code(folder: ModelFolder):
    expected = AUTO_MAPS[folder.config["model_type"]]
    if folder.config.get("auto_map") != expected:
        folder.problems.append(f"config.json must have the auto_map {expected}, not {folder.config.get('auto_map')}")
    try:
        names = code_files(folder)
    except SyntaxError as error:
        folder.problems.append(f"a code file is not Python: {error}")
        return
    missing = [name for name in names if not (folder.path / name).is_file()]
    folder.files += ["config.json", *(name for name in names if name not in missing)]
    if missing:
        folder.problems.append(f"code is missing: {', '.join(missing)}")


def _take_weights(folder: ModelFolder):
    try:
        files = weight_files("the folder", folder.path)
    except (ValueError, OSError) as error:
        folder.problems.append(f"no weights: {error}")
        return
    folder.files += [file.name for file in files]
    if [file.name for file in files] != [WEIGHTS]:
        folder.files.append(INDEX)
    _check_base(folder, folder.config)


def _check_base(folder: ModelFolder, config: dict[str, Any], subject: str = "it holds"):
    """Of heads alone, whether others can load the backbone that they name."""
    base = config.get(BASE_WEIGHTS)
    if not base:
        return
    name = base.get("name") if isinstance(base, dict) else base
    if not isinstance(name, str) or not HUB_ID.fullmatch(name) or Path(name).is_dir():
        told = (
            f"{subject} heads alone, and their backbone {name} is a local folder, which nobody else can load: push "
            "that first (`hf upload org/base DIR`) and name it with `--base-model org/base`, or train with "
            "`--save_backbone`"
        )
    elif not COMMIT.fullmatch(base.get("commit") or ""):
        told = f"the backbone {name} is not pinned to a commit: name it with `--base-model {name}`"
    else:
        return
    if told not in folder.unshared:  # of all members of an ensemble once
        folder.unshared.append(told)


def _take_adapter(folder: ModelFolder, adapter: dict[str, Any]):
    folder.files.append(ADAPTER_CONFIG)
    if (folder.path / ADAPTER_WEIGHTS).is_file():
        folder.files.append(ADAPTER_WEIGHTS)
    else:
        folder.problems.append(f"no weights: {ADAPTER_WEIGHTS} is missing")
    base = adapter.get("base_model_name_or_path")
    if not base:
        folder.problems.append(f"{ADAPTER_CONFIG} names no base (`base_model_name_or_path`)")
    elif not HUB_ID.fullmatch(base) or Path(base).is_dir():
        folder.problems.append(
            f"its base {base} is a local folder, which nobody else can load: push the base first, then name its "
            f"repository, 'org/name', in {ADAPTER_CONFIG} as `base_model_name_or_path`"
        )


def _check_members(folder: ModelFolder):
    members = folder.config.get("members", [])
    for name, revision in zip(members, folder.config.get("revisions") or [None] * len(members), strict=True):
        path = Path(absolute_name(name, folder.path)) if _is_local(name) else None
        if path is None:
            if not COMMIT.fullmatch(revision or ""):
                folder.problems.append(f"member {name} is not pinned to a commit: its revision is {revision}")
        elif not (path / "config.json").is_file():
            folder.problems.append(f"member {name} is not there")
        elif name.startswith("./") and read_json(path / "config.json").get(BASE_WEIGHTS):
            _take_member(folder, name.removeprefix("./"), path)
        else:
            folder.unshared.append(
                f"member {name} is a local folder, which nobody else can load: `urm push` of this folder pushes the "
                "members too"
            )


def _take_member(folder: ModelFolder, name: str, path: Path):
    """Heads that lie in the ensemble's own folder, and go to the Hub with it."""
    config = read_json(path / "config.json")
    check_config(config, str(path))
    _check_base(folder, config, "its members hold")
    try:
        files = [file.name for file in weight_files(str(path), path)]
    except (ValueError, OSError) as error:
        folder.problems.append(f"member {name} has no weights: {error}")
        return
    folder.files += [f"{name}/{file}" for file in ["config.json", *files]]


def _check_tokenizer(folder: ModelFolder):
    there = [path.name for path in folder.path.iterdir()]
    vocabulary = any(fnmatch(name, pattern) for name in there for pattern in VOCABULARIES)
    if "tokenizer_config.json" not in there or not vocabulary:
        folder.problems.append("no tokenizer: save it there with `tokenizer.save_pretrained`")
    elif "chat_template.jinja" not in there and not read_json(folder.path / "tokenizer_config.json").get(
        "chat_template"
    ):
        folder.problems.append("the tokenizer has no chat template: set `tokenizer.chat_template` and save it again")


def _leads_outside(path: Path, folder: Path) -> bool:
    """Whether a link leads to a file that nobody meant to publish. In the Hub's cache all files are links to blobs."""
    if not path.is_symlink():
        return False
    target, cache = path.resolve(), folder.resolve().parent.parent / "blobs"
    return not target.is_relative_to(folder.resolve()) and not target.is_relative_to(cache)


def _check_companions(folder: ModelFolder):
    """Takes what else belongs to a model, names the rest, and finds what must not be published."""
    taken = set(folder.files)
    for path in sorted(folder.path.rglob("*")):
        name = path.relative_to(folder.path).as_posix()
        if path.is_dir() or name == KEPT_RESULTS or name in taken or (name.split("/")[0] + "/") in folder.left_out:
            continue
        if any(name.split("/")[0] == other.split("/")[0] for other in taken if "/" in other):
            folder.left_out.append(name)  # beside a member's heads
        elif "/" in name and not name.startswith("additional_chat_templates/"):
            folder.left_out.append(name.split("/")[0] + "/")
        elif "/" in name or any(fnmatch(name, pattern) for pattern in COMPANIONS):
            folder.files.append(name)
        else:
            folder.left_out.append(name)
    for name in folder.files:
        if _leads_outside(folder.path / name, folder.path):
            target = (folder.path / name).resolve()
            folder.problems.append(f"{name} is a link to {target}, outside of the folder: copy it, or remove it")
    pickles = [name for name in folder.left_out if name != TRAINERS_PICKLE and is_pickle(name)]
    if pickles:
        folder.problems.append(f"pickled files, which can run code when they are loaded: {', '.join(pickles)}")
    if folder.adapter is None and not folder.is_ensemble and (folder.path / ADAPTER_CONFIG).is_file():
        folder.problems.append(
            f"{ADAPTER_CONFIG}: transformers would put that adapter on top of the weights. Merge it "
            "(`merge_and_unload`) and save the result in a new folder"
        )
    for key, value in local_paths(without_local_paths(folder.config)):
        if not key.startswith(("members", BASE_WEIGHTS)):
            folder.problems.append(f"config.json has a local path: {key} is {value}")
