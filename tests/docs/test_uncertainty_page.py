"""Every program of docs/uncertainty.md runs, on tiny members; its table lists every measure."""

import json
import re
from pathlib import Path

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.uncertainty.measures import MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "uncertainty.md").read_text(encoding="utf-8")


def test_the_programs_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save_with_tokenizer(tiny_urm(seed=seed), tmp_path / "urm-demo" / f"member-{seed}")
    pairs = [{"prompt": f"{i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": "No."} for i in range(40)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    names: dict = {}
    programs = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(programs) >= 4
    for program in programs:
        exec(compile(program, "uncertainty.md", "exec"), names)
    assert Path("ood.png").stat().st_size > 0


def test_the_table_lists_every_measure_with_its_unit():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*?) \|", PAGE, flags=re.MULTILINE))
    assert rows == {name: entry.unit for name, entry in MEASURES.items()}
