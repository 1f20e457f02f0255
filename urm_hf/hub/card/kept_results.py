"""
The results that a push was given, kept beside the model: the next push shows them too, unless the model has changed.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from urm_hf.checkpoints.files import dump_json, read_json, write_file
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.modeling.checks_urm import explain_damage


def keep_results(path: Path, results: Sequence[Result], model: dict[str, Any]):
    """
    Args:
        path (`Path`): the file to write.
        results (`Sequence[Result]`): what was measured; a trainer's evaluation, which chose the head, is not kept.
        model (`dict`): what tells the model that they are of from others, such as hashes of its weights.
    """
    if any(result.split != "validation" for result in results):
        content = {"model": model, "results": [asdict(result) for result in results]}
        write_file(path, dump_json(content, path, indent=1, ensure_ascii=False))


def read_kept_results(path: Path, model: dict[str, Any]) -> list[Result] | None:
    """
    The results that an earlier push was given; an empty list if there are none, None if they are of another model.

    Args:
        path (`Path`): the file, which need not exist.
        model (`dict`): as of [`keep_results`].

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return []
    content = read_json(path)
    with explain_damage(str(path)):
        if content["model"] != model:
            return None
        results = [Result(**entry) for entry in content["results"]]
    unknown = next((result.metric for result in results if result.metric not in METRICS), None)
    if unknown is not None:
        raise ValueError(f"{path} is damaged: no metric is called {unknown!r:.100}. Take the file away.")
    return results
