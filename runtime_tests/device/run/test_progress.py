"""What is shown while a run goes, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from mobiletl.device.run import progress as progress_module
from mobiletl.device.run.checkpoints import Position
from mobiletl.device.run.metrics import EpochMetrics
from mobiletl.device.run.progress import Progress, duration
from mobiletl.device.run.schedule import Schedule

SCHEDULE = Schedule(pictures=80, batch=8, epochs=2, lr=0.1, seed=0)
ROW = EpochMetrics(1, 10, 0.5, 0.75, 0.25, 0.875, 0.1, 12.5, 96_000_000, 110_000_000, 75.0)


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what it is sent, in ASCII."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", write_through=True)

    def isatty(self) -> bool:
        return True

    def sent(self) -> str:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode("ascii")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress_module, "resident_bytes", lambda: 96_000_000)
    monkeypatch.setenv("COLUMNS", "120")
    return now


def after(step: int) -> Position:
    return Position(step=step, loss_sum=4.0 * step, correct=6 * step, seen=8 * step, seconds=step)


def test_live_line(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(terminal, SCHEDULE)
    for step in (1, 2, 3):
        clock[0] += 2.0
        progress.step(1, after(step))
    line = terminal.sent().split("\r\x1b[K")[-1]
    # 17 steps of 2 s are left; no evaluation has been timed.
    assert line == (
        "epoch 1/2  step 3/10  loss 0.500  accuracy 75.0%  8.0 pictures/s  96 MB  0:34 left"
    )


def test_time_left_counts_evaluations(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(terminal, SCHEDULE)
    progress.epoch(ROW, score_seconds=30.0)
    for step in (11, 12):
        clock[0] += 2.0
        progress.step(2, after(step))
    assert terminal.sent().endswith("0:46 left")


def test_line_fits_the_terminal(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    Progress(terminal, SCHEDULE).step(1, after(1))
    assert terminal.sent() == "\r\x1b[Kepoch 1/2  step 1/10"[: 4 + 19]


def test_line_is_not_rewritten_all_the_time(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(terminal, SCHEDULE)
    for step in range(1, 11):
        clock[0] += 0.05
        progress.step(1, after(step))
    assert 1 < terminal.sent().count("\r") < 5


def test_epoch_line_stays(clock: list[float]) -> None:
    terminal = Terminal()
    Progress(terminal, SCHEDULE).epoch(ROW, 1.0)
    assert terminal.sent() == (
        "\r\x1b[Kepoch 1/2  train loss 0.500 accuracy 75.0%  val loss 0.250 accuracy 87.5%  "
        "12.5 pictures/s  96 MB (peak 110)  1:15\n"
    )


def test_elsewhere_only_lasting_lines(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(stream, SCHEDULE)
    progress.part("caching", 1, 5)
    progress.step(1, after(1))
    assert stream.getvalue() == ""
    progress.epoch(ROW, 1.0)
    progress.note("hello")
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().splitlines()[1] == "hello"


def test_names_cannot_move_the_cursor(clock: list[float]) -> None:
    terminal = Terminal()
    Progress(terminal, SCHEDULE).note("class 'Grün\n\x1b[2J'")
    assert terminal.sent() == "\r\x1b[Kclass 'Gr\\xfcn\\n\\x1b[2J'\n"


def test_closed_terminal_does_not_stop_the_training(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(terminal, SCHEDULE)
    terminal.close()
    progress.note("nobody reads this")
    progress.step(1, after(1))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3675, "1:01:15")]
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
