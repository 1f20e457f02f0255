"""docs/architecture.md draws every floor there is, and its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_drawing_names_every_folder_of_the_package():
    drawing = re.search(r"```\n(.*?)```", PAGE, flags=re.DOTALL).group(1)
    drawn = [line.split()[0] for line in drawing.splitlines()]
    folders = {path.parent.name for path in (ROOT / "urm_hf").glob("*/__init__.py")}
    assert set(drawn) == folders | {"scores"} and len(drawn) == len(set(drawn))


def test_its_links_lead_to_what_exists():
    links = re.findall(r"\]\(\.\./([^)]+)\)", PAGE)
    assert len(links) > 10 and [link for link in links if not (ROOT / link).exists()] == []
