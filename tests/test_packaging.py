"""
What reaches a user: the wheel holds the whole package and nothing beside it, and works away from this repository.

The tree is copied before it is built, so that no build product is left in it. Nothing here needs the network.
"""

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = {"modeling": "urm_hf/modeling", "trainers": "urm_hf/trainers", "urm_hf": "urm_hf"}
BUILD_FILES = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE"]

IMPORT_EVERYTHING = """
import importlib, pkgutil, urm_hf
print(urm_hf.__file__)
for module in pkgutil.walk_packages(urm_hf.__path__, "urm_hf.", onerror=lambda name: importlib.import_module(name)):
    if not module.name.endswith((".__main__", ".vllm.model", ".vllm.named_pooling")):
        print(importlib.import_module(module.name).__file__)
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Standard output of a command; its whole output is in the failure when it exits non-zero."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_", "PYTEST_"))}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=inherited | env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sources(pattern: str) -> set[str]:
    """The tree's files as they should be named in the wheel; `Path.rglob` does not follow the two links."""
    return {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob(pattern)
    }


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A folder with `direct/*.whl`, built from the tree, and `*.tar.gz` with the wheel built from that beside it."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=ignore)
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run(*build, "--outdir", out, cwd=tree)  # the sdist, then the wheel from the sdist
    run(*build, "--wheel", "--outdir", out / "direct", cwd=tree)
    return out


@pytest.fixture(scope="module", params=["direct/*.whl", "*.whl"], ids=["tree", "sdist"])
def wheel(request, dist) -> Path:
    (found,) = dist.glob(request.param)
    return found


def test_wheel_holds_every_module_and_nothing_else(wheel):
    names = files_in(wheel)
    assert {n for n in names if n.endswith(".py")} == sources("*.py")
    (dist_info,) = {n.split("/")[0] for n in names} - {"urm_hf"}
    assert dist_info.startswith("urm_hf-") and dist_info.endswith(".dist-info")


def test_wheel_holds_the_data(wheel):
    names = files_in(wheel)
    assert "urm_hf/py.typed" in names
    assert {n for n in names if n.endswith(".jsonl")} == sources("demo/*.jsonl") != set()
    templates = sources("report/*.jinja") | sources("report/*.css")
    assert {n for n in names if n.endswith((".jinja", ".css"))} == templates != set()
    assert any(n.endswith("/licenses/LICENSE") for n in names)


def test_wheel_works_outside_the_repository(dist, tmp_path):
    (wheel,) = dist.glob("direct/*.whl")
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=elsewhere)
    layout = {"base": str(environment), "platbase": str(environment)}
    python = Path(sysconfig.get_path("scripts", "venv", layout)) / ("python.exe" if os.name == "nt" else "python")
    site_packages = Path(sysconfig.get_path("purelib", "venv", layout))
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=elsewhere)
    # The dependencies come from the environment of the tests. A .pth file inside that one is not read from here: an
    # editable install of this repository stays out.
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")

    printed = run(python, "-c", IMPORT_EVERYTHING, cwd=elsewhere, HF_HUB_OFFLINE="1").split("\n")
    imported = {Path(line).resolve() for line in printed if line.endswith(".py")}
    installed = (site_packages / "urm_hf").resolve()
    inside_vllm = {installed / "serving" / "vllm" / name for name in ("model.py", "named_pooling.py")}
    assert imported == {p for p in installed.rglob("*.py") if p.name != "__main__.py"} - inside_vllm
    usage = run(python.with_name("urm.exe" if os.name == "nt" else "urm"), "--help", cwd=elsewhere)
    assert "demo" in usage


@pytest.mark.parametrize("folder", ["modeling", "trainers"])
def test_links_inside_the_package(folder):
    link = ROOT / "urm_hf" / folder
    if link.is_file():
        pytest.skip("this clone was made without support for symlinks")
    assert link.is_symlink() and os.readlink(link) == f"../{folder}"


def test_the_oldest_versions_are_those_that_are_declared():
    """Every dependency has a floor, and `constraints-oldest.txt` a version of it within the range."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    declared = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    for requirement in map(Requirement, filter(None, declared.splitlines())):
        assert requirement.specifier, f"{requirement.name} has no floor"
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement
