"""Whether two files that `urm score` wrote are of one model: numbers of two models have no common scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# what one model gives and another may not
OF_A_MODEL = ("reward_std", "epistemic_variance", "reward_gap")


def check_same_model(names: Sequence[str], files: Sequence[Sequence[Mapping[str, Any]]]) -> str | None:
    """
    Args:
        names (`list[str]`): of the two files.
        files (`list[list[dict]]`): their rows.

    Returns:
        A note where it is not known whether one model scored both.

    Raises:
        ValueError: they were scored by different models.
    """
    from urm_hf.scoring.jobs.finished import recall_models

    models = [recall_models(Path(name)) for name in names]
    first, second = models
    if first is not None and second is not None:
        if _read_states(first) != _read_states(second):
            raise ValueError(
                f"two models scored the files: {names[0]} by {', '.join(first)} and {names[1]} by "
                f"{', '.join(second)}. Their numbers cannot be compared: score both with one model."
            )
        return None
    told = [_describe_rows(rows) for rows in files]
    if told[0] != told[1]:
        raise ValueError(
            f"two models scored the files: {names[0]} has {told[0]}, {names[1]} has {told[1]}. Their numbers cannot "
            "be compared: score both with one model."
        )
    unknown = " and ".join(name for name, of in zip(names, models, strict=True) if of is None)
    return (
        f"note: which model scored {unknown} is not known: no `urm score` wrote it here as it is now. The attributes "
        "and the kinds of numbers are alike; whether one model gave them all is for you to know."
    )


def _read_states(models: Sequence[str]) -> list[str]:
    """The commits or hashes of the models, whatever their folders are called."""
    return [" on ".join(part.rsplit("@", 1)[-1] for part in model.split(" on ")) for model in models]


def _describe_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """What tells models apart in what they gave."""
    first = rows[0]
    attributes = ", ".join(first.get("attribute_means") or ()) or "no attributes"
    members = first.get("member_rewards")
    kinds = ", ".join(name for name in OF_A_MODEL if first.get(name) is not None) or "no uncertainty"
    return f"{attributes}; {kinds}" + (f"; {len(members)} members" if members else "")
