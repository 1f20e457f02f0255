"""The program of docs/compatibility.md runs, and its table of differences has a row for each exclusion's reason."""

import re
from pathlib import Path

import pytest

from tests.helpers.common_test_exclusions import EXCLUSIONS
from tests.helpers.onnx_graphs import assert_equal_outputs
from tests.helpers.tiny import save_with_tokenizer, tiny_urm

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()


def test_the_exporting_program_gives_a_graph_of_the_same_numbers(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    folder = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(program.replace("org/urm-8b", folder), names)
    assert_equal_outputs(tmp_path / "urm.onnx", names["model"], [[5], [30, 3, 17, 8], [2, 2]])


def test_the_table_counts_the_exclusions():
    rows = re.findall(r"^\| URM on \w+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 2
    for _, failed, _, by_design in rows:
        assert (int(failed), int(by_design)) == (0, len(EXCLUSIONS))
