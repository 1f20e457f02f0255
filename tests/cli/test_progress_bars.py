"""Bars of the libraries, in logs and on terminals."""

import os
import subprocess
import sys

from tests.helpers.commands import ROWS, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli.progress_bars import SWITCHES, hide_bars_in_logs


def test_a_log_has_no_bars_of_other_libraries(tmp_path):
    model = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    data = write(tmp_path / "rows.jsonl", ROWS)
    arguments = ["score", model, "--data", data, "--out", str(tmp_path / "scored.jsonl")]
    unset = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environment = unset | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "URM_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "urm_hf", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "it/s" not in done.stderr and "\r" not in done.stderr


def test_what_the_environment_says_and_terminals_stay_as_they_are(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(SWITCHES[0], "0")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with hide_bars_in_logs():
        assert [os.environ[name] for name in SWITCHES] == ["0", "1"]
    assert SWITCHES[1] not in os.environ
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with hide_bars_in_logs():
        assert SWITCHES[1] not in os.environ
