"""A folder of the package imports only folders below it, lazily or not, and no two modules import each other."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# lowest first; files of the root that are not named here only re-export, and nothing in the package imports them
FLOORS = [
    *("moved", "modeling", "data", "statistics", "checkpoints", "scores", "uncertainty", "scoring", "rl"),
    *("evaluation", "judge", "bestofn", "hub", "trainers", "report", "serving", "app", "demo", "cli", "__main__"),
]
PUBLIC_NAMES = {"filtering", "ood", "rewards"}


def find_modules() -> dict[str, Path]:
    """Path of each module by its dotted name; the two links in the package are read where they lead."""
    modules = {}
    for folder, package in (("urm_hf", "urm_hf"), ("modeling", "urm_hf.modeling"), ("trainers", "urm_hf.trainers")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "urm_hf" and parts[0] in ("modeling", "trainers"):
                continue  # where `rglob` follows links
            modules[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return modules


MODULES = find_modules()


def read_imports(name: str, path: Path, lazy: bool = True) -> Iterator[str]:
    """Modules of this package that one imports, also inside functions and, as whole strings, by name."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                found = f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
                if found in MODULES:
                    yield found
        elif isinstance(node, ast.Constant) and str(node.value) in MODULES:
            yield node.value


def folder_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_floors_name_every_folder_and_file():
    assert {folder_of(name) for name in MODULES} - {""} == set(FLOORS) | PUBLIC_NAMES


def test_a_folder_imports_only_folders_below_it():
    upward = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        if folder_of(name) in FLOORS
        for other in read_imports(name, path)
        if folder_of(other) and FLOORS.index(folder_of(name)) < (FLOORS + [*PUBLIC_NAMES]).index(folder_of(other))
    ]
    assert upward == []


def test_no_module_imports_one_that_imports_it():
    imports = {name: set(read_imports(name, path)) - {name, "urm_hf"} for name, path in MODULES.items()}
    # a package whose `__init__` re-exports what is in it is no circle: what is inside never imports the package
    seen: dict[str, int] = {}

    def visit(name: str, way: list[str]):
        if name in way:
            raise AssertionError(" -> ".join([*way[way.index(name) :], name]))
        if name not in seen:
            for other in imports[name]:
                visit(other, [*way, name])
            seen[name] = 1

    for name in MODULES:
        if name != "urm_hf":  # its lazy names lead everywhere
            visit(name, [])


def test_modeling_knows_neither_this_package_nor_its_dependencies():
    allowed = {"torch", "transformers", "safetensors", "peft"}  # safetensors comes with transformers; peft is optional
    for path in (ROOT / "modeling").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                top = (node.module or "").split(".")[0]
            elif isinstance(node, ast.Import):
                top = node.names[0].name.split(".")[0]
            else:
                continue
            assert top in allowed or top in sys.stdlib_module_names, f"{path.name} imports {top}"
