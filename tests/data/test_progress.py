"""Progress on a terminal, and in a log."""

import io

import pytest

from urm_hf.data import progress
from urm_hf.data.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set; tqdm reads it through each bar."""
    now = [1000.0]
    usual = ProgressBar.__init__

    def with_clock(self, *args, **kwargs):
        usual(self, *args, **kwargs)
        self._time = lambda: now[0]
        self.start_t = self.last_print_t = now[0]

    monkeypatch.setattr(ProgressBar, "__init__", with_clock)
    return now


def run(clock, stream, seconds: float, **kwargs):
    with ProgressBar(total=100, desc="Hidden states", file=stream, **kwargs) as bar:
        for _ in range(100):
            clock[0] += seconds / 100
            bar.update()
    return stream.getvalue()


def test_a_log_gets_a_whole_line_every_half_minute(clock):
    lines = run(clock, io.StringIO(), 150.0).splitlines()
    assert 4 <= len([line for line in lines if line]) <= 6
    assert all(line.startswith("Hidden states: ") and " of 100 (" in line for line in lines if line)
    assert "\r" not in "".join(lines) and " left" in lines[0]


def test_a_short_step_says_nothing_in_a_log(clock):
    assert run(clock, io.StringIO(), progress.EVERY - 5) == ""


def test_a_terminal_has_its_bar(clock):
    assert "\r" in run(clock, Terminal(), 5.0, mininterval=0)
