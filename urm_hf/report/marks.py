"""The parts of the report's tables: columns, cells, and the dots with intervals that are drawn in them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from urm_hf.report.text import number

# a marker of matplotlib, and the same as an SVG path around the origin, 9 units wide
SHAPES = [
    ("o", "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z"),
    ("s", "M-4-4h8v8h-8z"),
    ("D", "M0-5.5L5.5 0L0 5.5L-5.5 0z"),
    ("^", "M0-5L5 4h-10z"),
    ("v", "M0 5L5-4h-10z"),
    ("P", "M-1.8-5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z"),
    ("h", "M0-5L4.4-2.5v5L0 5L-4.4 2.5v-5z"),
]
# strokes of lines, in units of an SVG
DASHES = [(), (6, 2.5), (1.5, 2), (7, 2, 1.5, 2), (3.5, 2), (9, 2, 3, 2), (1.5, 4)]
# readable on white and, for eyes that mix up red and green, apart in lightness too; page.css has those for dark
COLORS = ["#0072b2", "#c4510a", "#00845f", "#9d4b86", "#8f6400", "#222222", "#2f7fa8"]


@dataclass(frozen=True)
class Look:
    """
    How the models, or the measures, of a plot are told apart: by shape and stroke as well as by color.

    After seven colors they begin again, with other shapes and strokes.

    Args:
        number (`int`): its place among those that are told apart.
        hollow (`bool`, *optional*, defaults to `False`): of a baseline, in gray.
    """

    number: int
    hollow: bool = False

    @property
    def marker(self) -> str:
        return self._shape[0]

    @property
    def path(self) -> str:
        return self._shape[1]

    @property
    def _shape(self) -> tuple[str, str]:
        return SHAPES[(self.number + self.number // len(COLORS)) % len(SHAPES)]

    @property
    def dashes(self) -> tuple[float, ...]:
        return DASHES[(self.number + 2 * (self.number // len(COLORS))) % len(DASHES)]

    @property
    def color(self) -> str:
        if self.hollow:
            return "var(--muted)"
        return theme_color(COLORS[self.number % len(COLORS)])


def theme_color(color: str) -> str:
    """The color as a variable of page.css, which the dark scheme sets anew."""
    return f"var(--c{COLORS.index(color)}, {color})"


@dataclass(frozen=True)
class Axis:
    """
    The scale of a column of dots.

    Args:
        low (`float`): its left end.
        high (`float`): its right end.
        ticks (`Sequence[tuple[float, str]]`): values and their labels.
        reference (`float`, *optional*): a line to compare with, such as chance.
    """

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    reference: float | None = None

    def at(self, value: float) -> str:
        """Where a value lies, in percent of the width; a margin is left for dots and labels at the ends."""
        inside = min(max((value - self.low) / (self.high - self.low), 0), 1)
        return f"{6 + 88 * inside:.2f}%"


def build_axis(
    values: Iterable[float | None], reference: float | None = None, factor: float = 100, limits=(0.0, 1.0)
) -> Axis:
    """An axis with two to six round ticks over all values, within `limits`; labels show `factor` times the value."""
    known = [value for value in [*values, reference] if value is not None]
    low, high = min(known), max(known)
    span = max(high - low, 0.02)
    steps = (factor_of_ten * 10.0**exponent for exponent in range(-4, 9) for factor_of_ten in (1, 2, 5))
    step = next(step for step in steps if span / step <= 4)
    # 1e-9: without it, a bound that rounding puts a hair beyond a tick would get another tick
    low = max(math.floor(low / step + 1e-9) * step, limits[0])
    high = min(math.ceil(high / step - 1e-9) * step, limits[1])
    high = high if high > low else low + step
    count = round((high - low) / step)
    digits = max(0, -math.floor(math.log10(step * factor) + 1e-9))
    ticks = [(low + i * step, number(factor * (low + i * step), digits)) for i in range(count + 1)]
    return Axis(low, high, ticks, reference)


@dataclass(frozen=True)
class Mark:
    """
    A dot and its interval.

    Args:
        value (`float`): where the dot is.
        interval (`tuple[float, float]` or `None`): the ends of the line through it.
        look ([`Look`]): of the model or measure.
        label (`str`): for those who cannot see it.
    """

    value: float
    interval: tuple[float, float] | None
    look: Look
    label: str


@dataclass(frozen=True)
class Cell:
    """
    Args:
        text (`str` or `Markup`, *optional*): what it says.
        detail (`str` or `Markup`, *optional*): smaller, below it.
        marks (`Sequence[Mark]`, *optional*): dots instead of text.
        look ([`Look`], *optional*): of the model or measure that it names.
    """

    text: str | Markup = ""
    detail: str | Markup = ""
    marks: Sequence[Mark] = ()
    look: Look | None = None


@dataclass(frozen=True)
class Column:
    """
    Args:
        title (`str` or `Markup`): its head.
        hint (`str`, *optional*): smaller, below it.
        axis ([`Axis`], *optional*): of a column of dots.
        look ([`Look`], *optional*): of the model that it is about.
        text (`bool`, *optional*, defaults to `False`): whether it holds words, which stand on the left.
    """

    title: str | Markup
    hint: str = ""
    axis: Axis | None = None
    look: Look | None = None
    text: bool = False


@dataclass(frozen=True)
class Table:
    """
    Args:
        caption (`str` or `Markup`): what it shows.
        columns (`Sequence[Column]`): their heads.
        groups (`dict`): rows by the heading that stands over them, "" for none; the first cell of a row is its head.
        note (`str` or `Markup`, *optional*): smaller, below it.
    """

    caption: str | Markup
    columns: Sequence[Column]
    groups: dict[str | Markup, list[list[Cell]]] = field(default_factory=dict)
    note: str | Markup = ""
