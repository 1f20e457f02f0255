"""Conversations with human ratings, to evaluate on: rows as in docs/data.md, and which attribute is which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from urm_hf.data.conversation_keys import key_of_prompt
from urm_hf.data.conversations import ANSWER_COLUMNS, Conversation, read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.formats.ratings import HELPSTEER2_RATINGS
from urm_hf.data.items import BadRow
from urm_hf.data.ratings import find_masks, is_rated, ratings_array, read_ratings
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns

RATINGS = "ratings"  # the kind, and the column that tells it
ONE_ANSWER = (*ANSWER_COLUMNS, "messages", "text", "input_ids")  # columns of a conversation with one answer


@dataclass(frozen=True)
class RatingSet:
    """
    N conversations with ratings of n attributes by up to R annotators.

    Args:
        conversations (N): as [`RewardScorer.score`] reads them. prompts (N): keys; rows that share one are resampled
            together.
        ratings (`(N, n, R)`): NaN where there is none.
        scales: [min, max] of those attributes for which the rows declare it.
        skipped: rows that were left out, by reason.
    """

    name: str
    attributes: list[str]
    conversations: list[Conversation]
    prompts: list[str]
    ratings: np.ndarray
    scales: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return RATINGS

    @property
    def origins(self) -> list[str]:
        """(N) where each conversation comes from, for errors."""
        return [f"{self.name}, conversation {number}" for number in range(len(self.conversations))]

    @property
    def subsets(self) -> dict[str, int]:
        return {}

    @property
    def remarks(self) -> list[str]:
        return []

    @property
    def noun(self) -> str:
        return "rating"

    @property
    def mean(self) -> str:
        return ""

    def select(self, rows: Sequence[int]) -> "RatingSet":
        """These rows alone."""
        return replace(
            self,
            conversations=[self.conversations[row] for row in rows],
            prompts=[self.prompts[row] for row in rows],
            ratings=self.ratings[list(rows)],
        )

    def rename(self, name: str) -> "RatingSet":
        return replace(self, name=name)


def rating_set(
    rows: Iterable[Mapping[str, Any] | BadRow],
    name: str,
    *,
    attributes: Sequence[str] | None = None,
    skip_unrated: bool = False,
) -> RatingSet:
    """
    Ratings from rows; `scale`, if they have it, declares the range of each attribute.

    Args:
        attributes: columns to read; default: all that the column `ratings` names.
        skip_unrated: leaves out rows without any rating, and rows that cannot be used, and counts them, instead of
            an error. A [`BadRow`] is left out and counted in any case.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    given = list(rows)
    if not given:
        raise ValueError(f"{name} holds no rows.")
    skipped: dict[str, int] = {}
    for item in given:
        if isinstance(item, BadRow):
            skipped[str(item.error).removesuffix(".")] = 1
    # in the place of what could not be read stands an empty row, so that the others keep their numbers
    readable: list[Mapping[str, Any]] = [{} if isinstance(item, BadRow) else item for item in given]
    names = list(attributes) if attributes else _names(readable, name)
    scales, conversations, prompts, ratings = _scales(readable, names, name), [], [], []
    numbers = []  # of the rows that are used
    for number, row in enumerate(readable):
        if isinstance(given[number], BadRow):
            continue
        try:
            if skip_unrated and not is_rated(row, names):
                skipped["no rating"] = skipped.get("no rating", 0) + 1
                continue
            rating, conversation = read_ratings(row, names, scales), read_conversation(row)
        except ValueError as error:
            if not skip_unrated:
                raise RowError(f"{name}, row {number}: {error}", file=name, row=number) from error
            told = str(error).removesuffix(".")
            skipped[told] = skipped.get(told, 0) + 1
            continue
        ratings.append(rating)
        conversations.append(conversation)
        prompts.append(key_of_prompt(conversation) or f"row {number}")
        numbers.append(number)
    if not ratings:
        raise ValueError(f"{name}: none of its {len(given)} rows has a rating of {', '.join(names)}.")
    array = ratings_array(ratings).astype(np.float64)
    empty = [attribute for k, attribute in enumerate(names) if np.isnan(array[:, k]).all()]
    if empty:
        raise ValueError(f"{name} has no rating of {', '.join(empty)} in any row; leave it out of the attributes.")
    data = RatingSet(name, names, conversations, prompts, array, scales, skipped)
    return _without_masks(data, numbers, skip=skip_unrated)


def _without_masks(data: RatingSet, numbers: Sequence[int], *, skip: bool) -> RatingSet:
    """
    Ratings without values that usually say "not rated": an error, or rows that are left out and counted.

    Args:
        numbers (`list[int]`): of the rows, where they came from.
        skip (`bool`): whether to leave out.
    """
    masked = find_masks(data.ratings, data.attributes, data.scales, column="scale")
    kept = [place for place in range(len(numbers)) if place not in masked]
    if masked and (not skip or not kept):
        place = min(masked)
        raise RowError(f"{data.name}, row {numbers[place]}: {masked[place]}", file=data.name, row=numbers[place])
    for told in masked.values():
        reason = told.removesuffix(".")
        data.skipped[reason] = data.skipped.get(reason, 0) + 1
    return data.select(kept) if masked else data


def matched(
    data: RatingSet, model_attributes: Sequence[str], mapping: Mapping[str, str] | None = None
) -> dict[str, str]:
    """
    The model's attribute for each attribute of the data that it is judged on.

    Args:
        mapping: attributes of the data by those of the model, {"helpfulness": "overall"}; what it does not name is
            left out. Default: both have the same names, in any order.

    Raises:
        ValueError: they do not agree; names both.
    """
    told = f"the model has the attributes {', '.join(model_attributes)}; {data.name} has {', '.join(data.attributes)}"
    if mapping is None:
        if set(model_attributes) != set(data.attributes):
            example = {model_attributes[0]: data.attributes[0]}
            option = "=".join(*example.items())
            raise ValueError(
                f"{told}. Say which is which, attributes of the data by those of the model: {example} "
                f"(--attribute-map {option})."
            )
        return {attribute: attribute for attribute in data.attributes}
    unknown = [own for own in mapping if own not in model_attributes]
    unknown += [other for other in mapping.values() if other not in data.attributes]
    if unknown or not mapping:
        raise ValueError(f"the mapping {dict(mapping)} names {', '.join(unknown) or 'nothing'}; {told}.")
    if len(set(mapping.values())) < len(mapping):
        raise ValueError(f"the mapping {dict(mapping)} judges two attributes of the model by one of the data.")
    own_of = {other: own for own, other in mapping.items()}
    return {other: own_of[other] for other in data.attributes if other in own_of}


def matched_models(
    data: RatingSet, models: Mapping[str, Sequence[str]], mapping: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """
    Which attribute of each model is which of the data: as far as `mapping` says so, else those of the same names.

    A model that has none of these is left out, to be judged by its reward.

    Args:
        models: attributes by the models' names. mapping: as in [`matched`], of all models.

    Raises:
        ValueError: no model can be judged, or the mapping names an attribute that no model has.
    """
    known = {own for attributes in models.values() for own in attributes}
    unknown = [own for own in mapping or {} if own not in known]
    if unknown and models:
        told = "; ".join(f"{name} has {', '.join(attributes)}" for name, attributes in models.items())
        raise ValueError(f"the mapping {dict(mapping or {})} names {', '.join(unknown)}, which no model has: {told}.")
    found = {}
    for name, attributes in models.items():
        own = {o: d for o, d in (mapping or {}).items() if o in attributes and d in data.attributes}
        if not own and set(data.attributes) <= set(attributes):  # the data may rate fewer than a model predicts
            own = {attribute: attribute for attribute in data.attributes}
        if own:
            found[name] = {o: d for d, o in matched(data, attributes, own).items()}
    if models and not found:
        name, attributes = next(iter(models.items()))
        try:
            matched(data, attributes, mapping)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


def holds_ratings(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> bool:
    """Whether rows have one answer each, which is rated, and no pair of a better and a worse one."""
    first = rows[0] if rows else {}
    if columns.chosen in first or columns.rejected in first:
        return False
    # one answer without a pair can only be rated: where its ratings are not found, the error asks for their columns
    return RATINGS in first or any(column in first for column in ONE_ANSWER)


def _names(rows: list[Mapping[str, Any]], name: str) -> list[str]:
    """The attributes: of the column `ratings`, else the columns that published data have (HelpSteer2)."""
    nested = [row["ratings"] for row in rows if isinstance(row.get("ratings"), Mapping)]
    names = list(dict.fromkeys(key for ratings in nested for key in ratings))
    names = names or [attribute for attribute in HELPSTEER2_RATINGS if attribute in rows[0]]
    if not names:
        numbers = [column for column in rows[0] if _holds_numbers(rows, column)]
        told = f" Of numbers are {', '.join(numbers)}." if numbers else ""
        raise ValueError(
            f"{name} has no column `ratings` that holds a mapping of attributes to ratings, nor those of HelpSteer2; "
            f"it has {', '.join(map(str, rows[0]))}.{told} Name the columns that hold ratings (`attributes`)."
        )
    return names


def _holds_numbers(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether a column may hold ratings: numbers, or lists of them, in every row that has a value."""
    values = [row.get(column) for row in rows if row.get(column) is not None]
    singles = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return bool(singles) and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in singles)


def _scales(rows: list[Mapping[str, Any]], names: Sequence[str], name: str) -> dict[str, list[float]]:
    """The range of each attribute, which all rows must declare alike."""
    scales: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        declared = row.get("scale")
        if declared is None:
            continue
        if not isinstance(declared, Mapping):
            raise ValueError(f"{name}, row {number}: `scale` must map attributes to [min, max], got {declared!r:.60}.")
        for attribute in names:
            scale = declared.get(attribute)
            if scale is None:
                continue
            if len(scale) < 2 or not scale[0] < scale[1]:
                raise ValueError(f"{name}, row {number}: the scale of {attribute} must be [min, max], got {scale}.")
            if list(scales.setdefault(attribute, list(scale))) != list(scale):
                raise ValueError(
                    f"{name}, row {number}: {attribute} has the scale {list(scale)}, and {scales[attribute]} in an "
                    "earlier row. Ratings on several scales cannot be judged together: give them different names."
                )
    return scales
