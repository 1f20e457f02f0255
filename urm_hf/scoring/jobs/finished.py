"""
Jobs that are finished are remembered, so that the same command started again finds that nothing is left to do.

A file in the cache, not one beside the output, which stays what it is: rows. It only says what the output was made
from; whether the output is still that, its contents tell.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from urm_hf.data.cache_folder import FINISHED, default_cache_dir
from urm_hf.data.outputs import json_text, write_whole
from urm_hf.data.source import digest_of


def remember_finished(out: Path, skipped: Path | None, manifest: dict[str, Any], counts: dict[str, int]):
    """
    Args:
        out (`Path`): the output. skipped (`Path`, *optional*): its side file, if there is one.
        manifest (`dict`): what it depends on. counts (`dict[str, int]`): of its rows.
    """
    files = {str(path): digest_of([path]) for path in (out.absolute(), skipped and skipped.absolute()) if path}
    record = {"files": files, "manifest": manifest, "counts": counts}
    try:
        place = _locate(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json_text(record).encode())
    except OSError:  # a home that is read-only: then the same command is told that its output exists
        return


def forget_finished(out: Path):
    """Removes what is remembered of an output that is not kept."""
    _locate(out).unlink(missing_ok=True)


def is_remembered(out: Path) -> bool:
    """Whether an output, with its side file, is byte for byte what a job has written."""
    return _read_record(out) is not None


def find_finished(out: Path, manifest: dict[str, Any]) -> dict[str, int] | None:
    """What was counted when the job of this manifest had written what now is the output; None if it has not."""
    record = _read_record(out)
    if record is None or record.get("manifest") != json.loads(json_text(manifest)):
        return None
    return record["counts"]


def recall_models(out: Path) -> list[str] | None:
    """
    The models that scored what now is the output, each with its commit or a hash; None where that is not known: the
    file was changed since, or written elsewhere.
    """
    record = _read_record(out)
    manifest = {} if record is None else record.get("manifest")
    models = manifest.get("model") if isinstance(manifest, dict) else None
    return [str(model) for model in models] if isinstance(models, list) and models else None


def _read_record(out: Path) -> dict[str, Any] | None:
    if not out.is_file():
        return None
    try:
        record = json.loads(_locate(out).read_bytes())
        files = {name: digest_of([Path(name)]) for name in record["files"]}
    except (OSError, ValueError, TypeError, LookupError):  # never written, or not by this function
        return None
    return record if files and files == record["files"] else None


def _locate(out: Path) -> Path:
    name = hashlib.blake2b(str(out.absolute()).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return default_cache_dir() / FINISHED / f"{name}.json"
