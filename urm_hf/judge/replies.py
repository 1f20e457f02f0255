"""
From a judge's reply to its verdict, by reading it as a literal: nothing of it is ever run.

The whole reply has to be the list that was asked for. Whatever else it says makes it unparseable, because a ranking
somewhere inside a text may be one that the judge quotes from an answer.
"""

import ast
import re

LONGEST = 1000  # characters of a verdict; a ranking of two has about 100

_FENCED = re.compile(r"```(?:python|json)?[ \t]*\n(.*?)\n?[ \t]*```", flags=re.DOTALL)
_THOUGHTS = re.compile(r"\s*<think>(?:(?!</think>).)*</think>((?:(?!</think>).)*)", flags=re.DOTALL)


class Unparseable(ValueError):
    """A reply that is not the one ranking that was asked for; the message says why."""


def read_preferred(reply: str, names: tuple[str, str]) -> int:
    """
    Which of the two models, 0 or 1, a reply ranks first.

    Args:
        reply (`str`): all that the judge said.
        names (`tuple[str, str]`): what the models were called in the request.

    Around the list there may be one code fence, and before it the `<think>` block of a reasoning model.

    Raises:
        Unparseable: the reply is anything but one ranking of these two names.
    """
    text = _extract_verdict(reply)
    if [text.count(key) for key in (*names, "rank")] != [1, 1, 2] or "\\" in text:
        # checked before it is read: a literal keeps the last of several equal keys, without a word
        raise Unparseable("it does not name each of the two models once, with a rank")
    try:
        ranking = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Unparseable("it is not a Python literal") from None
    ranks = dict(_read_entry(entry) for entry in _check_two(ranking))
    if set(ranks) != set(names) or set(ranks.values()) != {1, 2}:
        raise Unparseable(f"it does not rank {names[0]} and {names[1]} as 1 and 2")
    return names.index(min(ranks, key=ranks.__getitem__))


def _extract_verdict(reply: str) -> str:
    if thoughts := _THOUGHTS.fullmatch(reply):
        reply = thoughts[1]
    text = reply.strip()
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1].strip()
    if len(text) > LONGEST:  # a deep literal could exhaust the parser's stack
        raise Unparseable(f"it has {len(text)} characters, a ranking of two has about 100")
    return text


def _check_two(ranking: object) -> list:
    if not isinstance(ranking, list) or len(ranking) != 2:
        raise Unparseable("it is not a list of two")
    return ranking


def _read_entry(entry: object) -> tuple[str, int]:
    if not isinstance(entry, dict) or set(entry) != {"model", "rank"}:
        raise Unparseable("an entry is not a dictionary of model and rank")
    name, rank = entry["model"], entry["rank"]
    if not isinstance(name, str) or type(rank) not in (int, str) or str(rank) not in ("1", "2"):
        raise Unparseable("a model is not a name, or a rank is neither 1 nor 2")
    return name, int(rank)
