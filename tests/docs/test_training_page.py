"""The launch lines of docs/training.md name recipes that are there, and are those that the tests of recipes run."""

import re
from pathlib import Path

from tests.helpers.recipe_stages import STAGES

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"--config_file (\S+) \$\(which urm\) train (\w+) \\\n    --config (\S+)")


def test_the_launch_lines_are_those_that_are_run():
    lines = LINE.findall((ROOT / "docs" / "training.md").read_text())
    assert len(lines) == 4
    for launcher, _, recipe in lines:
        assert (ROOT / launcher).is_file() and (ROOT / recipe).is_file()
    found = {(Path(launcher).name, stage, Path(recipe).name) for launcher, stage, recipe in lines}
    tried = {("fsdp2.yaml", stage, recipe) for stage, recipe, _ in STAGES.values()}
    assert found == tried | {("zero3.yaml", *STAGES["attributes"][:2])}
