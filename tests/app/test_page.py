"""The page in a real browser: what its buttons do, that it fetches nothing from elsewhere, and fits a phone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.browser import CHROMIUM, Page
from tests.helpers.score_runs import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main

pytest.importorskip("gradio", reason="the page needs gradio: `pip install 'urm-hf[app]'`")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed (Debian: chromium)")

BOXES = "[...document.querySelectorAll('textarea')]"
FITS = "document.documentElement.scrollWidth <= window.innerWidth"


def click(page: Page, button: str):
    """The button with this text, once it is there."""
    found = f"[...document.querySelectorAll('button')].findLast(b => b.textContent.trim() == {json.dumps(button)})"
    page.wait(found)
    page.evaluate(f"{found}.click()")


def list_complaints(page: Page) -> list[str]:
    """Without the warning that Gradio's own stream of events prints when it is closed."""
    return [told for told in page.complaints if "Method not implemented." not in told]


def wait_for_text(page: Page, text: str):
    page.wait(f"document.body.innerText.includes({json.dumps(text)})")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """`urm app` of an ensemble, in a process of its own."""
    folder = tmp_path_factory.mktemp("app")
    members = [save_with_tokenizer(tiny_urm(seed=seed), folder / f"member-{seed}") for seed in range(3)]
    write(folder / "familiar.jsonl", [{"prompt": "a?", "response": "b" * length} for length in range(1, 31)])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "urm_hf", "app", ",".join(members), "--familiar", str(folder / "familiar.jsonl")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "GRADIO_TEMP_DIR": str(folder / "files")}
    with subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if "Ctrl+C" in line:
                break
        assert process.poll() is None, "the page did not start"
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_two_answers_are_compared(address, width, tmp_path):
    with Page(address, width) as page:
        click(page, "Compare")
        wait_for_text(page, "Write a prompt first.")
        page.evaluate("[...document.querySelectorAll('tbody tr')].at(-1).click()")
        page.wait(f"{BOXES}[0].value == 'asdf qwer'")
        click(page, "Compare")
        wait_for_text(page, "P(A is better) = ")
        wait_for_text(page, "members")
        assert page.evaluate("document.querySelectorAll('.pictures svg').length") == len(tiny_urm().config.attributes)
        assert page.evaluate("document.body.innerText.match(/looks (un)?familiar/g).length") == 2
        assert page.evaluate(FITS)
        assert list_complaints(page) == []
        assert {url.split("/")[2] for url in page.requests if not url.startswith(("data:", "blob:"))} == {
            address.split("/")[2]
        }


@needs_browser
@pytest.mark.slow
def test_a_file_is_uploaded_scored_and_downloaded(address, tmp_path):
    rows = [{"prompt": "a?", "chosen": "b", "rejected": "c"}, {"prompt": "<script>x</script>", "response": "d"}]
    write(tmp_path / "rows.jsonl", rows)
    with Page(address, 390) as page:
        click(page, "A file")
        click(page, "Score")
        wait_for_text(page, "Choose a file first.")
        inputs = "[...document.querySelectorAll('input[type=file]')]"
        page.evaluate(f"{inputs}.at(-1).id = 'batch'")
        page.upload("#batch", tmp_path / "rows.jsonl")
        wait_for_text(page, "rows.jsonl")
        click(page, "Score")
        wait_for_text(page, "3 conversations scored, 0 not")
        page.wait("document.querySelector('a[download=\"scored.csv\"]')")
        assert page.evaluate(FITS) and list_complaints(page) == []


def test_other_machines_are_let_in_only_if_somebody_says_so(capsys):
    assert main(["app", "absent", "--host", "0.0.0.0"]) == 2
    assert "--no-auth" in capsys.readouterr().err


def test_a_fault_is_told_in_one_line(tmp_path, capsys):
    assert main(["app", str(tmp_path), "--familiar", str(tmp_path / "absent.jsonl")]) == 2
    assert capsys.readouterr().err.endswith("absent.jsonl is no file.\n")
    save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    write(tmp_path / "few.jsonl", [{"prompt": "a?", "response": "b"}])
    assert main(["app", str(tmp_path / "urm"), "--familiar", str(tmp_path / "few.jsonl")]) == 2
    assert "at least 20 familiar conversations" in capsys.readouterr().err


def test_the_space_shows_the_page_of_its_model(tmp_path, monkeypatch):
    """The program of examples/space, up to where it would wait for visitors."""
    from urm_hf.app import page

    shown = []
    monkeypatch.setattr(page, "launch_page", lambda *arguments, **settings: shown.append((arguments, settings)))
    model = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    monkeypatch.setenv("URM_MODEL", model)
    space = Path(__file__).parents[2] / "examples" / "space"
    program = (space / "app.py").read_text()
    exec(compile(program, "app.py", "exec"), {"__name__": "__main__"})
    ((built, host, port), _) = shown[0]
    assert (host, port) == ("0.0.0.0", 7860) and "urm" in built.title
    card = (space / "README.md").read_text()
    assert "sdk: gradio" in card and "app_file: app.py" in card
    assert "urm-hf[app]" in (space / "requirements.txt").read_text()
