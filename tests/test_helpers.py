"""Tests share what is in tests/helpers, never what stands in a conftest or in another test."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def imported_from_tests(path: Path) -> set[str]:
    """The modules of tests/ that a file imports, in its programs for other processes too."""
    found = set()
    trees = [ast.parse(path.read_text(encoding="utf-8"))]
    for node in ast.walk(trees[0]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
            try:
                trees.append(ast.parse(node.value))
            except SyntaxError:
                continue  # text, not a program
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "tests"):
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in ("tests", "conftest")}
    return found


def test_tests_import_helpers_only():
    wrong = {
        f"{path.relative_to(TESTS)} imports {name}"
        for path in TESTS.rglob("*.py")
        for name in imported_from_tests(path)
        if not name.startswith("tests.helpers.")
    }
    assert wrong == set()
