"""Numbers and names as people read them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from urm_hf.evaluation.entries import Comparison
from urm_hf.evaluation.measured import Measured

SPACE, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
MANY = 2  # more models than these share sentences, and leave the details of each to tables
LIKELY_NOISE = 0.05  # a p-value from here on may be noise

RULES = {
    "longest answer": "always taking the longest answer",
    "shortest answer": "always taking the shortest answer",
}
MARGIN = "margin near 0"  # needs no uncertainty: any reward model gives it
MEASURE_WORDS = {
    MARGIN: "how close the two rewards are",
    "probability near 1/2": "how close the predicted preference is to even",
    "reward_std": "the predicted spread of the reward",
    "reward_gap": "the members’ disagreement on the reward",
    "reward_epistemic": "the spread of the members’ rewards",
    "attribute_variance": "the predicted noise of ratings",
    "aleatoric": "the predicted noise of ratings",
    "covariance_norm": "the predicted noise of ratings, led by the noisiest attribute",
    "epistemic": "the members’ disagreement on the attributes",
    "margin gap": "the members’ disagreement on the difference of the rewards",
    "attribute_gap": "the members’ largest disagreement on an attribute",
    "total": "noise and disagreement together",
}


@dataclass(frozen=True)
class Finding:
    """
    One sentence or two.

    Args:
        text (`Markup`): for the page; as a string it is plain.
        tone (`str`, *optional*, defaults to `"plain"`): or "good", or "warning" for what a reader must not overlook.
    """

    text: Markup
    tone: str = "plain"

    def __str__(self) -> str:
        return self.text.striptags().replace(SPACE, " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def name_model(model: str) -> Markup:
    """A name in the type of names."""
    return Markup('<span class="name">{}</span>').format(breakable(model))


def breakable(name: str) -> Markup:
    """A name with places where a line may break, as ids of repositories have no spaces."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[^\W_]{2}[-_/])", name))


def join_words(items: Sequence[str | Markup], word: str = "and") -> Markup:
    """ "a, b and c"."""
    if len(items) < 2:
        return Markup("").join(items)
    return Markup("{} {} {}").format(Markup(", ").join(items[:-1]), word, items[-1])


def number(value: float, digits: int, sign: bool = False) -> str:
    """
    A number with a true minus, and no minus before zero.

    Args:
        value (`float`): the number.
        digits (`int`): after the point.
        sign (`bool`, *optional*, defaults to `False`): whether a plus is shown.
    """
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("-+")
    return text.replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    """ "61.2 %" of 0.612."""
    return f"{number(100 * share, digits)}{SPACE}%"


def format_interval(interval: Sequence[float] | None, digits: int = 1, factor: float = 100) -> str:
    """
    "[57.4, 64.9]" for the interval of a share; empty where there is none.

    Args:
        interval (`tuple[float, float]` or `None`): its ends.
        digits (`int`, *optional*, defaults to 1): after the point.
        factor (`float`, *optional*, defaults to 100): what is shown of 1; 100 for shares in percent.
    """
    if interval is None:
        return ""
    low, high = (number(factor * bound, digits) for bound in interval)
    return f"[{low},{SPACE}{high}]"


def add_interval(text: str, interval: str) -> str:
    """A number and its interval, if there is one."""
    return f"{text} {interval}" if interval else text


def format_share(found: Measured) -> str:
    """ "61.2 % [57.4, 64.9]"."""
    return add_interval(percent(found.value), format_interval(found.interval))


def format_value(found: Measured) -> str:
    """ "0.71 [0.66, 0.76]"."""
    return add_interval(number(found.value, 2), format_interval(found.interval, 2, 1))


def points(difference: float) -> str:
    """ "3.0 points" of a difference of shares of 0.03 or -0.03."""
    text = number(100 * abs(difference), 1)
    return f"{text}{SPACE}{'point' if text == '1.0' else 'points'}"


def format_count(n: int, what: str) -> str:
    """ "1 pair", "12 345 pairs"."""
    digits = f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if n > 9999 else f"{n}"
    return f"{digits}{SPACE}{what}{'' if n == 1 else 's'}"


def p_value(p: float) -> str:
    """ "p = 0.032", with a third digit where it is small."""
    if p < 0.001:
        return "p < 0.001".replace(" ", SPACE)
    return f"p = {p:.{3 if p < 0.1 else 2}f}".replace(" ", SPACE)


def format_test(comparison: Comparison) -> str:
    """The test and its p-value, the adjusted one where several comparisons were made."""
    p, adjusted = comparison.p_value, comparison.p_adjusted
    if adjusted is None or adjusted == p:
        return f"{comparison.test}: {p_value(p)}"
    return f"{comparison.test}, adjusted for several comparisons: {p_value(adjusted)}"


def certainty(comparison: Comparison) -> str:
    """
    "equal", "sure", "noise", "borderline" where the test and the interval disagree, or "many" where they rule noise
    out for this comparison alone, but not for one of several.

    Args:
        comparison ([`Comparison`]): of two models.
    """
    # as it is shown: a difference of 0.0 beside "unlikely to be noise" would make readers doubt the report
    if number(100 * comparison.difference, 1) == "0.0":
        return "equal"
    adjusted = comparison.p_adjusted
    alone = comparison.p_value < LIKELY_NOISE
    significant = alone and (adjusted is None or adjusted < LIKELY_NOISE)
    interval = comparison.interval
    excludes = alone
    if interval is not None:
        excludes = interval[0] > 0 or interval[1] < 0  # that there is no difference
    if alone and excludes and not significant:
        return "many"
    if significant != excludes:
        return "borderline"
    return "sure" if significant else "noise"


READING = {
    "sure": "is unlikely to be noise",
    "noise": "may be noise",
    "many": "may be noise among so many comparisons",
    "borderline": "is borderline: interval and test disagree on whether it is noise",
}


def name_kind(kind: str) -> str:
    """A kind of probability, Gauss with his capital."""
    return kind.replace("gaussian", "Gaussian")


def measure_name(variant: str) -> Markup:
    """A measure in words, with the name that it has in this package."""
    code = Markup("<code>{}</code>").format(variant)
    return Markup("<b>{}</b> ({})").format(MEASURE_WORDS[variant], code) if variant in MEASURE_WORDS else code
