"""Pictures of the page: the predicted distribution of each attribute's rating for two answers."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from urm_hf.scores import RewardScore

COLORS = ("#1f6feb", "#d9730d")  # told apart by most eyes, and on white and black


def find_scales(model: Any) -> dict[str, Sequence[float]]:
    """The rating scales of a model's attributes, as far as its checkpoint, or that of its first member, has them."""
    scales = getattr(model.config, "attribute_scales", None)
    if not scales and getattr(model, "members", None):
        scales = getattr(model.members[0].config, "attribute_scales", None)
    return dict(scales or {})


def draw_attributes(scores: Sequence[RewardScore], scales: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """
    A picture for each attribute: the Gaussian that is predicted for a rating of answers A and B.

    Args:
        scores (`Sequence[RewardScore]`): of the answers, with attributes.
        scales (`Mapping`): low and high end of each attribute's ratings, where they are known; shown in grey.

    Returns:
        `dict[str, str]`: an SVG by attribute. Empty where the model has no attributes.
    """
    names = list(scores[0].get("attribute_means") or {})
    return {name: _draw_attribute(name, scores, scales.get(name)) for name in names}


def _draw_attribute(name: str, scores: Sequence[RewardScore], scale: Sequence[float] | None) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    means = np.array([score["attribute_means"][name] for score in scores])
    stds = np.array([(score.get("attribute_stds") or {}).get(name, 0.0) for score in scores])
    low, high = (means - 3.2 * stds).min(), (means + 3.2 * stds).max()
    if scale is not None:
        low, high = min(low, scale[0]), max(high, scale[1])
    if low == high:
        low, high = low - 1, high + 1
    # the salt keeps the names inside apart from those of the other pictures on the page
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(3.4, 2.0), layout="constrained")
        axis = figure.add_subplot()
        if scale is not None:
            axis.axvspan(scale[0], scale[1], color="#eeeeee", zorder=0)
        grid = np.linspace(low, high, 200)
        for answer, color, mean, std in zip("AB", COLORS, means, stds, strict=False):
            if std > 0:
                density = norm.pdf(grid, mean, std)
                axis.plot(grid, density, color=color, lw=1.8, ls="-" if answer == "A" else "--", label=answer)
                axis.fill_between(grid, density, color=color, alpha=0.12)
            else:
                axis.axvline(mean, color=color, lw=1.8, ls="-" if answer == "A" else "--", label=answer)
        axis.set_title(name, fontsize=11)
        axis.set_yticks([])
        axis.set_ylim(bottom=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.legend(frameon=False, handlelength=1.6)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    svg = text[text.index("<svg") :]
    described = f"Predicted ratings: {_describe(means, stds)}"
    return svg.replace("<svg", f'<svg role="img" aria-label="{described}"', 1)


def _describe(means: np.ndarray, stds: np.ndarray) -> str:
    return "; ".join(f"{name} {mean:.2f} ± {std:.2f}" for name, mean, std in zip("AB", means, stds, strict=False))
