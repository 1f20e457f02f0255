"""The launch lines of docs/training.md name recipes that are there, and are those that the tests of recipes run."""

import re
import shlex
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from tests.helpers.recipe_stages import STAGES
from tests.helpers.reward_runs import tiny_reward_model
from tests.helpers.score_runs import write
from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.training import pair_rows
from urm_hf.cli import main

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"--config_file (\S+) \$\(which urm\) train (\w+) \\\n    --config (\S+)")
PAGE = (ROOT / "docs" / "training.md").read_text()


def test_a_reward_model_trains_by_the_command_and_by_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_reward_model().save_pretrained("BASE")
    tiny_tokenizer().save_pretrained("BASE")
    rows = pair_rows(12)
    write(tmp_path / "pairs.jsonl", rows)
    command = next(line for line in PAGE.splitlines() if line.startswith("urm train reward"))
    assert main([*shlex.split(command)[1:], "--use_cpu", "true", "--report_to", "none", "--max_steps", "2"]) == 0
    AutoModelForSequenceClassification.from_pretrained("reward")
    program = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL).group(1)
    quick = 'URMRewardConfig("reward", max_steps=2, use_cpu=True, report_to="none")'
    program = program.replace('URMRewardConfig("reward")', quick)
    exec(compile(program, "training.md", "exec"), {"pairs": Dataset.from_list(rows)})


def test_the_launch_lines_are_those_that_are_run():
    lines = LINE.findall(PAGE)
    assert len(lines) == 4
    for launcher, _, recipe in lines:
        assert (ROOT / launcher).is_file() and (ROOT / recipe).is_file()
    found = {(Path(launcher).name, stage, Path(recipe).name) for launcher, stage, recipe in lines}
    tried = {("fsdp2.yaml", stage, recipe) for stage, recipe, _ in STAGES.values()}
    assert found == tried | {("zero3.yaml", *STAGES["attributes"][:2])}
