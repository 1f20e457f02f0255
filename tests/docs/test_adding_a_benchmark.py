"""docs/adding_a_benchmark.md: its file and its program work as they stand, on a model that is evaluated."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm

PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_benchmark.md").read_text(encoding="utf-8")
ROW = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])


def test_the_page_adds_a_benchmark_and_evaluates_a_model_on_it(tmp_path, monkeypatch, capsys):
    file, program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "subjects.py").write_text(file)
    sums = [ROW | {"rejected": str(number)} for number in range(5, 14)]
    words = [ROW | {"chosen": "four", "rejected": f"five{number}", "subject": "words"} for number in range(3)]
    (tmp_path / "subjects.jsonl").write_text("\n".join(map(json.dumps, sums + words)))
    model = save_with_tokenizer(tiny_urm(attributes=["helpfulness"]), tmp_path / "urm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    exec(program.replace("org/urm", model), {})

    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert (results["data"][0]["kind"], results["data"][0]["noun"]) == ("subjects", "question")
    accuracy = {
        entry["group"]: entry["value"]
        for entry in results["metrics"]
        if (entry["model"], entry["metric"]) == ("urm", "accuracy")
    }
    assert set(accuracy) == {None, "sums", "words"}
    assert accuracy[None] == pytest.approx((accuracy["sums"] + accuracy["words"]) / 2)  # not weighted by their rows
    printed = capsys.readouterr().out
    assert "12\N{NO-BREAK SPACE}questions" in printed or "12 questions" in printed
    assert "the mean of its subjects" in printed and "subjects" in (tmp_path / "evaluation/report.html").read_text()
