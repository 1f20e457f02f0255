"""Model cards in tests: the config that they are of, and their tables read back."""

import re

from tests.helpers.tiny import tiny_urm


def config(**kwargs) -> dict:
    return tiny_urm(attributes=["help", "depth"], **kwargs).config.to_dict()


def table(card: str, title: str) -> dict[str, list[str]]:
    """The cells of the first table after a title, by the first cell of their row."""
    lines = card.split(title)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    assert {len(row) for row in rows} == {len(rows[0])}, rows
    return {row[0]: row[1:] for row in rows}


def columns(card: str, title: str) -> dict[str, dict[str, str]]:
    """The cells of all tables of a section by the first cell of their row and the title of their column."""
    section = card.split(title)[1].split("\n#")[0]
    found: dict[str, dict[str, str]] = {}
    for part in section.split("\n\n"):
        if part.startswith("|"):
            rows = table(f"{title}\n{part}", title)
            head = next(iter(rows.values()))
            for label, cells in rows.items():
                found.setdefault(label, {}).update(zip(head, cells))
    return found
