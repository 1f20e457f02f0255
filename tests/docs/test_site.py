"""The site builds strictly, offline, and the pages that were written for it run as printed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import COMMANDS, main
from urm_hf.demo.base import tiny_model

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


def read_page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and content of each block of a page, in their order."""
    return re.findall(r"```(bash|python|yaml)\n(.*?)```", read_page(name), flags=re.DOTALL)


def run_page(name: str, replaced: dict[str, str]):
    """Programs, files and commands of a page in their order, in the current folder; programs share their names."""
    names: dict = {}
    for language, block in blocks(name):
        for old, new in replaced.items():
            block = block.replace(old, new)
        if language == "python":
            exec(compile(block, f"{name}.md", "exec"), names)
        elif language == "yaml":
            Path(re.match(r"# (\S+)\n", block)[1]).write_text(block + "use_cpu: true\n")
        else:
            for line in block.strip().splitlines():
                assert main(shlex.split(line)[1:]) == 0, line


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def save_ensemble(folder: Path):
    """Three members on one backbone, and the folder that names them."""
    model = tiny_urm()
    for seed in range(3):
        model.score.load_state_dict(tiny_urm(seed=seed).score.state_dict())
        save_with_tokenizer(model, folder / f"member-{seed}")
    from urm_hf import URMEnsemble

    members = [str(folder / f"member-{seed}") for seed in range(3)]
    URMEnsemble.from_pretrained(members).save_pretrained(folder / "ensemble")


@pytest.mark.slow
def test_the_site_builds_and_no_link_leads_nowhere(tmp_path):
    pytest.importorskip("mkdocs", reason="the site needs mkdocs: `pip install 'urm-hf[docs]'`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # nothing that a reader's browser would fetch from elsewhere
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert (
            re.findall(r'<(?:script|img|iframe)[^>]*src="https?:|<link[^>]*rel="stylesheet"[^>]*https?:', text) == []
        )
    api = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in api for name in re.findall(r"^::: (\S+)$", read_page("api"), flags=re.MULTILINE))


def test_the_reference_has_every_public_name():
    import urm_hf

    documented = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", read_page("api"), flags=re.MULTILINE)}
    former = {"compare", "measure", "pair_values"}
    constants = {"MEASURES", "__version__"}
    outputs = {"URMOutput", "URMEnsembleOutput"}
    assert set(urm_hf.__all__) - former - constants - outputs <= documented


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_quickstart_runs_as_printed(workplace, capsys):
    backbone, tokenizer = tiny_model()
    backbone.save_pretrained("base")
    tokenizer.save_pretrained("base")
    run_page("quickstart", {SMOLLM2: "base"})
    assert Path("evaluation/report.html").is_file() and "helpfulness" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gating_runs_as_printed(workplace):
    save_with_tokenizer(tiny_urm(), workplace / "urm-attributes")
    pair = {"prompt": [{"role": "user", "content": "a?"}], "chosen": "b", "rejected": "d"}
    Path("pairs.jsonl").write_text("".join(json.dumps(pair | {"chosen": "b" * n}) + "\n" for n in range(1, 9)))
    run_page(
        "gating", {"--out urm": "--out urm --use_cpu true --report_to none", '="none")': '="none", use_cpu=True)'}
    )
    assert Path("urm/model.safetensors").is_file() and Path("urm-gated/model.safetensors").is_file()


def test_ensembles_and_rewards_run_as_printed(workplace, capsys):
    save_ensemble(workplace / "urme")
    Path("conversations.jsonl").write_text(json.dumps({"prompt": "a?", "response": "b"}) + "\n")
    train, *rest = [block for language, block in blocks("ensembles") if language == "bash"]
    assert train.startswith("urm train ensemble --attributes-config attributes.yaml")  # the quickstart's, run there
    for block in rest:
        for line in block.strip().splitlines():
            assert main(shlex.split(line)[1:]) == 0, line
    (first, second) = (json.loads(Path(f"{name}.jsonl").read_text()) for name in ("scored", "scored-again"))
    assert first["reward"] == pytest.approx(second["reward"], rel=1e-5)
    for name in ("ensembles", "rl"):
        for program in [block for language, block in blocks(name) if language == "python"]:
            exec(compile(program, f"{name}.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") >= 2


def test_publishing_runs_as_printed(workplace):
    save_with_tokenizer(tiny_urm(), workplace / "urm")
    save_ensemble(workplace / "urme")
    # the pushes themselves are tests of urm_hf.hub, against a server
    tried = {"org/urme --license apache-2.0": "org/urme --license apache-2.0 --dry-run"}
    run_page(
        "publishing",
        tried
        | {"hf upload org/base BASE\nurm push urm org/urm --base-model org/base": "urm push urm org/urm --dry-run"},
    )
    assert "apache-2.0" in Path("urm/README.md").read_text()


@pytest.mark.parametrize("name", [path.stem for path in sorted(DOCS.glob("*.md"))])
def test_commands_named_on_a_page_exist(name):
    named = set(re.findall(r"`urm ([a-z]+)\b", read_page(name)))
    assert named <= {*COMMANDS}, name


def test_errors_on_the_page_are_errors_of_the_package():
    told = re.findall(r"^\| `([^`]+)` \|", read_page("errors"), flags=re.MULTILINE)
    files = [path for folder in ("urm_hf", "trainers", "modeling") for path in (ROOT / folder).rglob("*.py")]
    source = re.sub(r'"\s+f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in files))
    assert len(told) > 8 and [text for text in told if text not in source] == []


def test_figures_name_programs_that_there_are():
    named = re.findall(r"examples/[\w/]+\.\w+", read_page("figures"))
    assert named and all((ROOT / path).is_file() for path in named)
