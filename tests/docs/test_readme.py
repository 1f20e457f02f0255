"""Every command and every program of the README and of docs/in_python.md runs, on tiny models."""

import json
import re
import shlex
from pathlib import Path

import pytest

import urm_hf.demo.base
from tests.helpers.posteriors import with_posterior
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf.cli import COMMANDS, main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[2]
IN_PYTHON = (ROOT / "docs" / "in_python.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder to work in, a cache of its own, and no pretrained model at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urm_hf.demo.base, "_find_smollm2", lambda: None)
    return tmp_path


def save_tiny(folder: Path, seed: int):
    tiny_urm(seed=seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_twenty_lines_run_as_printed(workplace, capsys):
    exec(compile(blocks("python", IN_PYTHON)[0], "in_python.md", "exec"), {})
    assert "helpfulness" in capsys.readouterr().out
    assert {"model.safetensors", "modeling_urm.py", "chat_template.jinja"} <= {
        path.name for path in Path("urm").iterdir()
    }


def test_the_ensemble_programs_run_as_printed(workplace, capsys):
    model, _ = with_posterior()
    for member in range(3):  # on one backbone, as those of the demo
        model.score.load_state_dict(tiny_urm(seed=member).score.state_dict(), strict=False)
        save_with_tokenizer(model, workplace / "urm-demo" / f"member-{member}")
    names: dict = {}
    exec(compile(blocks("python", IN_PYTHON)[1], "in_python.md", "exec"), names)
    assert names["score"].reward_gap > 0
    (program,) = blocks("python")
    assert len([line for line in program.splitlines() if line]) <= 10
    capsys.readouterr()
    exec(compile(program, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_commands_run_as_printed(workplace):
    save_tiny(workplace / "BASE", seed=0)
    rows = [
        {"prompt": "a?", "response": "b" * number, **dict.fromkeys(urm_attributes(), [1, number % 3])}
        for number in range(1, 13)
    ]
    Path("ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = {"prompt": [{"role": "user", "content": "a?"}], "chosen": "b", "rejected": "d"}
    Path("pairs.jsonl").write_text(json.dumps(pair) + "\n")
    Path("conversations.jsonl").write_text(json.dumps({"id": 7, "prompt": "a?", "response": "b"}) + "\n")
    candidates = [{"response": text, "quality": number} for number, text in enumerate(("b", "c", "dd"))]
    Path("candidates.jsonl").write_text(json.dumps({"prompt": "a?", "candidates": candidates}) + "\n")
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("urm ")]
    assert len(commands) >= 3
    for command in commands:
        argv = shlex.split(command)[1:]
        if argv[0] == "train":
            argv += ["--max_steps", "2", "--use_cpu", "true", "--report_to", "none"]
        assert main(argv) == 0, command
    scored = json.loads(Path("scored.jsonl").read_text())
    assert scored["id"] == 7 and "reward_std" in scored
    assert Path("evaluation/report.html").is_file() and Path("bestofn/best_of_n.png").is_file()


def urm_attributes() -> list[str]:
    return tiny_urm().config.attributes


def test_make_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_tree_names_only_what_exists():
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"## The tree\n\n```\n(.*?)```", architecture, flags=re.DOTALL).group(1)
    folder = ""
    for line in tree.splitlines():
        if not line.startswith(" "):
            names = re.findall(r"[\w]+/", line.split("  ")[0])
            folder = names[0]
            assert all((ROOT / name).is_dir() for name in names), line
        else:
            for name in re.findall(r"\w+\.py|\w+/", re.split(r"\s{2,}", line.strip())[0] + " " + line[:26]):
                assert (ROOT / folder / name).exists(), line


def test_commands_named_in_the_readme_exist():
    assert {name for name in re.findall(r"`urm (\w+)", README) if name.islower()} <= {*COMMANDS}


def test_links_of_the_readme_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("https:")]
    assert len(links) > 15 and [link for link in links if not (ROOT / link).exists()] == []


def test_every_extra_is_named_in_the_readme():
    extras = re.search(r"\[options.extras_require\]\n(.*?)\n\n\[", (ROOT / "setup.cfg").read_text(), flags=re.DOTALL)[
        1
    ]
    names = re.findall(r"^(\w+) =", extras, flags=re.MULTILINE)
    assert len(names) > 6 and [name for name in names if f"`{name}`" not in README] == []
