"""A missing optional dependency is told in one line; any other fault of importing keeps its traceback."""

import sys
import textwrap
import types

import pytest

from urm_hf.cli import main


def stub(monkeypatch, code: str):
    """`urm score` runs this code instead."""
    module = types.ModuleType("stub")
    exec(f"def main(argv):\n{textwrap.indent(code, '    ')}", module.__dict__)
    monkeypatch.setitem(sys.modules, "urm_hf.cli.score", module)


@pytest.mark.parametrize("name", ["peft", "matplotlib", "ray"])
def test_an_optional_module_that_is_missing_is_told_in_one_line(monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    stub(monkeypatch, f"import {name}")
    assert main(["score"]) == 2
    extra = {"matplotlib": "report"}.get(name, name)
    assert capsys.readouterr().err == f"urm score: error: {name} is not installed: `pip install 'urm-hf[{extra}]'`.\n"
    code = f"try:\n    import {name}\nexcept ImportError as error:\n    raise ImportError('Member a: so.') from error"
    stub(monkeypatch, code)
    assert main(["score"]) == 2
    assert capsys.readouterr().err == "urm score: error: Member a: so.\n"
    monkeypatch.setenv("URM_DEBUG", "1")
    with pytest.raises(ImportError):
        main(["score"])


@pytest.mark.parametrize(
    "code",
    [
        "import urm_hf.absent",
        "from urm_hf.scoring.scorer import absent",
        "import peft.absent",
        "from peft import absent",
        "import absent",
        "raise ImportError('x') from ValueError('peft')",
    ],
)
def test_a_fault_of_importing_that_is_ours_is_not_hidden(monkeypatch, code):
    stub(monkeypatch, code)
    with pytest.raises(ImportError):
        main(["score"])
