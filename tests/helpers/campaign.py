"""What the campaign of `python -m tests.attacks` runs, and what each of its files promises."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ["tests/attacks", "tests/scoring/jobs/test_processes.py", "tests/judge/test_kill.py"]


def read_promise(module: str) -> str:
    """The first sentence of the docstring of a file of tests."""
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8").split('"""')[1]
    return " ".join(text.split()).partition(". ")[0].rstrip(".")
