"""
Runs the common model tests of the installed transformers on a URM: `python -m tests.external.run_common_tests`.

They come from its source distribution on PyPI, or from `--source`, the root of an unpacked one; none of it is kept.
Needs `parameterized`. What else you pass goes to pytest.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers

ROOT = Path(__file__).parents[2]
SUITE = Path(__file__).with_name("common_tests.py")
# What the common tests import of files that the distribution leaves out; nothing of it concerns a reward model.
ABSENT = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
}


def fetch_source(folder: Path) -> Path:
    """Downloads and unpacks the source distribution of the transformers that is installed."""
    name = f"transformers=={transformers.__version__}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-binary", "transformers", "--dest", str(folder), name], check=True)
    with tarfile.open(next(folder.glob("transformers-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.glob("transformers-*") if path.is_dir())


def lay_package(source: Path, folder: Path):
    """A package `transformers_tests` in `folder` of what the distribution has, and empty forms of what it lacks."""
    package = folder / "transformers_tests"
    package.mkdir()
    (package / "__init__.py").touch()
    for file in (source / "tests").glob("test_*.py"):
        (package / file.name).symlink_to(file)
    for name, text in ABSENT.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).parent.joinpath("__init__.py").touch()
        (package / name).write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="root of an unpacked source distribution of transformers")
    arguments, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_package((arguments.source or fetch_source(folder)).resolve(), folder)
        paths = {"PYTHONPATH": f"{folder}:{ROOT}"}
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            os.devnull,
            "--rootdir",
            str(ROOT),
            "--import-mode=importlib",
            str(SUITE),
            *rest,
        ]
        return subprocess.run(pytest, cwd=ROOT, env=os.environ | paths, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
