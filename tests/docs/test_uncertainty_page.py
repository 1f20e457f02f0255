"""Every program of docs/uncertainty.md runs, on tiny members; its table lists every measure."""

import json
import re
import shlex
from pathlib import Path

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.data.tables import read_jsonl
from urm_hf.uncertainty.measures import MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "uncertainty.md").read_text(encoding="utf-8")


def test_the_programs_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save_with_tokenizer(tiny_urm(seed=seed), tmp_path / "urm-demo" / f"member-{seed}")
    pairs = [{"prompt": f"{i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": "No."} for i in range(40)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    save_with_tokenizer(tiny_urm(), "urm-model")
    attributes = tiny_urm().config.attributes
    rated = [{"prompt": f"{i}?", "response": "x" * (i + 1), **dict.fromkeys(attributes, i % 5)} for i in range(20)]
    Path("ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rated))
    rated = [{"prompt": f"{i}!", "response": "y" * (i + 1), **dict.fromkeys(attributes, i % 4)} for i in range(20)]
    Path("new_ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rated))
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()
    ]
    fitting = [line for line in commands if line.startswith(("urm posterior", "urm calibrate"))]
    assert len(fitting) == 3
    for line in fitting:  # the programs read what they write
        assert main(shlex.split(line)[1:]) == 0, line
    names: dict = {}
    programs = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(programs) >= 4
    for program in programs:
        exec(compile(program, "uncertainty.md", "exec"), names)
    assert Path("ood.png").stat().st_size > 0
    for line in commands:
        if line.startswith(("urm score", "urm filter")):
            assert main(shlex.split(line)[1:]) == 0, line
    kept, dropped = list(read_jsonl("kept.jsonl")), list(read_jsonl("dropped.jsonl"))
    assert len(kept) >= 20 and sorted(map(json.dumps, kept + dropped)) == sorted(map(json.dumps, pairs))


def test_the_table_lists_every_measure_with_its_unit():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*?) \|", PAGE, flags=re.MULTILINE))
    assert rows == {name: entry.unit for name, entry in MEASURES.items()}
