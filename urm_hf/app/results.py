"""The comparison of two answers as HTML: a sentence, a bar, numbers with intervals, pictures, what is not known."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from urm_hf.app.familiar import FamiliarSet
from urm_hf.app.pictures import draw_attributes
from urm_hf.app.words import NAMES, compute_probability, describe_familiarity, describe_members, describe_preference
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.measures import reward_interval

CSS = """
.urm { color: var(--body-text-color); }
.urm .verdict { font-size: 1.3em; font-weight: 600; margin: 0.4em 0; }
.urm .bar { display: flex; height: 1.9em; border-radius: 4px; overflow: hidden; font-size: 0.9em; }
.urm .bar span { color: white !important; padding: 0.25em 0.6em; white-space: nowrap; overflow: hidden; }
.urm .bar span { box-sizing: border-box; }
.urm .bar .a { background: #1f6feb; } .urm .bar .b { background: #b35a05; flex: 1; text-align: right; }
.urm table { border-collapse: collapse; border: none !important; margin: 0.8em 0; }
.urm th, .urm td { padding: 0.3em 1em 0.3em 0 !important; text-align: left; font-variant-numeric: tabular-nums; }
.urm th, .urm td, .urm tr, .urm tbody { border: none !important; border-bottom: 1px solid #8884 !important; }
.urm .pictures { display: flex; flex-wrap: wrap; gap: 8px; margin: 0.8em 0; }
.urm .pictures svg { width: 300px; max-width: 100%; height: auto; background: white; border-radius: 4px; }
.urm .error { color: #c62828; font-weight: 600; }
.urm .small { opacity: 0.8; font-size: 0.9em; }
"""


def show_error(error: Exception) -> str:
    """What a visitor did wrong, as HTML."""
    return f'<div class="urm"><p class="error" role="alert">{escape(str(error))}</p></div>'


def show_comparison(
    scores: Sequence[RewardScore], scales: Mapping[str, Sequence[float]], familiar: FamiliarSet | None
) -> str:
    """
    Args:
        scores (`Sequence[RewardScore]`): of answers A and B to one prompt.
        scales (`Mapping`): of the attributes' ratings, as far as they are known.
        familiar ([`FamiliarSet`], *optional*): what "unfamiliar" is told by.

    Returns:
        `str`: HTML, in which nothing of what the visitor wrote is repeated.
    """
    parts = [Markup('<p class="verdict">{}</p>').format(describe_preference(scores))]
    probability = compute_probability(scores)
    if probability is not None:
        parts.append(_show_probability(probability))
    parts.append(_show_rewards(scores))
    pictures = draw_attributes(scores, scales)
    if pictures:
        parts.append(Markup("<h3>What raters would say, as the model predicts it</h3>"))
        # matplotlib escapes the names in its SVG
        parts.append(Markup('<div class="pictures">{}</div>').format(Markup("".join(pictures.values()))))
        if any(scales.values()):
            parts.append(Markup('<p class="small">Grey: the scale of the ratings.</p>'))
    told = [*describe_members(scores), *describe_familiarity(scores, familiar)] if pictures else []
    if told:
        items = Markup("").join(Markup("<li>{}</li>").format(sentence) for sentence in told)
        parts.append(Markup("<h3>What the model does not know</h3><ul>{}</ul>").format(items))
    if probability is not None:
        parts.append(
            Markup('<p class="small">The probability and the intervals are as good as the predicted spread. Run '
                   "<code>urm evaluate</code> on pairs of your own to see how good that is.</p>")
        )  # fmt: skip
    return str(Markup('<div class="urm">{}</div>').format(Markup("").join(parts)))


def _show_probability(probability: float) -> Markup:
    left, right = f"A: {probability:.0%}", f"B: {1 - probability:.0%}"
    # a side that has no room for its label leaves it to the other
    shown = (left if probability > 0.15 else "", right if probability < 0.85 else "")
    bar = Markup('<span class="a" style="width:{:.1f}%">{}</span><span class="b">{}</span>')
    label = f"P(A is better) = {probability:.2f}"
    return Markup('<p>{}</p><div class="bar" role="img" aria-label="{}">{}</div>').format(
        label, label, bar.format(100 * probability, *shown)
    )


def _show_rewards(scores: Sequence[RewardScore]) -> Markup:
    rows = Markup("")
    for name, score in zip(NAMES, scores, strict=True):
        interval = "not given"
        if score.get("reward_std") is not None:
            low, high = reward_interval(score["reward"], score["reward_std"])
            interval = f"{low:.2f} to {high:.2f}"
        cut = " (cut)" if score.get("truncated") else ""
        cells = (name, f"{score['reward']:.2f}", interval, f"{score['n_tokens']}{cut}")
        rows += Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))
    head = Markup("<tr><th>answer</th><th>reward</th><th>95 % interval</th><th>tokens</th></tr>")
    return Markup("<table>{}{}</table>").format(head, rows)
