"""Numbers and names as people read them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import Comparison

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
    """One sentence or two. tone: "good", "plain", or "warning" for what a reader must not overlook."""

    text: Markup
    tone: str = "plain"

    def __str__(self) -> str:
        return self.text.striptags().replace(SPACE, " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def name_model(model: str) -> Markup:
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
    """A number with a true minus, and no minus before zero."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("-+")
    return text.replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    return f"{number(100 * share, digits)}{SPACE}%"


def format_interval(interval: Sequence[float] | None, digits: int = 1, factor: float = 100) -> str:
    """ "[57.4, 64.9]" for the interval of a share; empty where there is none."""
    if interval is None:
        return ""
    low, high = (number(factor * bound, digits) for bound in interval)
    return f"[{low},{SPACE}{high}]"


def add_interval(text: str, interval: str) -> str:
    return f"{text} {interval}" if interval else text


def format_share(found: Measured) -> str:
    return add_interval(percent(found.value), format_interval(found.interval))


def format_value(found: Measured) -> str:
    return add_interval(number(found.value, 2), format_interval(found.interval, 2, 1))


def points(difference: float) -> str:
    text = number(100 * abs(difference), 1)
    return f"{text}{SPACE}{'point' if text == '1.0' else 'points'}"


def format_count(n: int, what: str) -> str:
    digits = f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if n > 9999 else f"{n}"
    return f"{digits}{SPACE}{what}{'' if n == 1 else 's'}"


def p_value(p: float) -> str:
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
    """
    if number(100 * comparison.difference, 1) == "0.0":
        return "equal"
    adjusted = comparison.p_adjusted
    alone = comparison.p_value < LIKELY_NOISE
    significant = alone and (adjusted is None or adjusted < LIKELY_NOISE)
    interval = comparison.interval
    excludes = alone if interval is None else interval[0] > 0 or interval[1] < 0
    if alone and excludes and not significant:
        return "many"
    return "borderline" if significant != excludes else "sure" if significant else "noise"


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
