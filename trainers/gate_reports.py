"""What a trained gate weighs, beside how well the attributes that it weighs are predicted."""

from collections.abc import Mapping
from pathlib import Path

from urm_hf.checkpoints.files import read_json

EVALUATED = "eval_results.json"  # that Trainer writes of a stage's evaluation
CORRELATION = "eval_pearson/"
UNPREDICTED = 0.05  # a share of the variance, r^2, up to which an attribute is as good as not predicted


def read_correlations(folder: str | Path) -> dict[str, float]:
    """
    The correlations of predictions and held-out ratings that the attribute stage left in its folder; empty where it
    held nothing out.

    Args:
        folder (`str` or `Path`): of the stage, or the name of a repository.
    """
    try:
        found = read_json(Path(folder) / EVALUATED)
    except (ValueError, OSError):  # no training depends on it
        return {}
    names = [name for name in found if name.startswith(CORRELATION) and isinstance(found[name], float)]
    return {name.removeprefix(CORRELATION): found[name] for name in names}


def describe_gate(weights: Mapping[str, tuple[float, float]], correlations: Mapping[str, float]) -> str:
    """
    Args:
        weights (`dict[str, tuple[float, float]]`): of each attribute, mean and standard deviation over conversations.
        correlations (`dict[str, float]`): of its predictions with held-out ratings, where they are known.
    """
    lines = ["Gate: weight of each attribute, mean and standard deviation over conversations"]
    lines[0] += "; r of its predictions with held-out ratings" if correlations else ""
    for name, (mean, std) in weights.items():
        told = f"   r {correlations[name]:+.2f}" if name in correlations else ""
        lines.append(f"  {name:<16} {mean:+.3f} ± {std:.3f}{told}")
    total = sum(abs(mean) for mean, _ in weights.values())
    blind = [name for name in weights if name in correlations and correlations[name] < UNPREDICTED**0.5]
    share = sum(abs(weights[name][0]) for name in blind) / total if total else 0.0
    if blind and share:
        lines.append(
            f"{share:.0%} of the weight is on {', '.join(blind)}, whose ratings the model hardly predicts (r below "
            f"{UNPREDICTED**0.5:.2f} on held-out rows): this part of the reward is not what people rated under that "
            "name, but what the pairs taught the gate to make of it."
        )
    return "\n".join(lines)
