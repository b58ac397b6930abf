"""Progress on a terminal, in a log, and silent; always on stderr."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from octavo import progress
from octavo.progress import track


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    yield fake


def test_a_log_gets_a_line_each_ten_seconds_and_a_last_one(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with track(80_000_000, "Downloading x", unit="B") as work:
        for _ in range(25):
            clock.now += 1
            work.advance(2_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Downloading x: 25 % (20.0 MB of 80.0 MB), 2.0 MB/s, 30 s left",
        "Downloading x: 50 % (40.0 MB of 80.0 MB), 2.0 MB/s, 20 s left",
        "Downloading x: 50.0 MB in 25 s",
    ]


def test_short_work_says_nothing_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with track(2, "Quick") as work:
        assert list(work.each("ab")) == ["a", "b"]
    assert work.done == 2
    assert capsys.readouterr().err == ""


def test_silent_work_says_nothing_at_all(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with track(2, "Silent", show=False) as work:
        for _ in work.each("ab"):
            clock.now += 60
    assert capsys.readouterr().err == ""


def test_failed_work_says_where_it_stopped(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), track(10, "Training", unit="steps") as work:
        work.advance(4, note="loss 1.70")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "Training: stopped at 40 % (4 steps of 10 steps)\n"


def test_resumed_work_does_not_count_what_was_there_as_speed(clock: Clock) -> None:
    with track(100, "x", done=90, show=False) as work:
        clock.now += 5
        work.advance(5, note="well")
    assert work.summary() == "x: 95 % (95 of 100), 1/s, 5.0 s left, well"


def test_work_of_unknown_length_has_no_percentage(clock: Clock) -> None:
    with track(None, "x", unit="B", show=False) as work:
        clock.now += 2
        work.advance(1500)
    assert work.summary() == "x: 1.5 kB, 750 B/s"


def test_a_terminal_gets_a_bar_without_colour_when_asked(tmp_path: object) -> None:
    import pty

    script = "from octavo.progress import track\nwith track(3, 'Working', unit='steps') as w: [*w.each('abc')]"

    def on_terminal(**variables: str) -> str:
        main, side = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **variables}
        process = subprocess.Popen([sys.executable, "-c", script], stderr=side, env=environment)
        os.close(side)
        output = io.BytesIO()
        while True:
            try:
                data = os.read(main, 4096)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            output.write(data)
        assert process.wait() == 0
        os.close(main)
        return output.getvalue().decode()

    coloured = on_terminal()
    assert "Working" in coloured
    assert "3 steps of 3 steps" in coloured
    assert "\x1b[38;5" in coloured or "\x1b[3" in coloured
    plain = on_terminal(NO_COLOR="1")
    assert "3 steps of 3 steps" in plain
    assert "38;" not in plain
    assert on_terminal(TERM="dumb") == ""


def test_rich_is_imported_only_on_a_terminal() -> None:
    script = (
        "import sys; from octavo.progress import track\n"
        "with track(1, 'x') as w: w.advance()\n"
        "assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)
