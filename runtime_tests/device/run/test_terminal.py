"""What is shown while a run goes, on a terminal and elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mobiletl.device.memory.plan import MemoryPlan, MemoryRow
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.run import terminal as terminal_module
from mobiletl.device.run.checkpoints import Position
from mobiletl.device.run.events import Epoch, EpochMetrics, Note, Part, Started, Step
from mobiletl.device.run.terminal import Terminal, duration

ROW = EpochMetrics(1, 10, 0.5, 0.75, 0.25, 0.875, 0.1, 12.5, 96_000_000, 110_000_000, 75.0)
STARTED = Started(
    run="runs/first",
    bundle="mbv2",
    bundle_id="0" * 64,
    origin="bundle",
    dataset=Dataset(Path("photos"), ("ant", "bee"), (), (), (), ("mind the gap",)),
    settings={},
    epochs=2,
    steps_per_epoch=10,
    position=Position(),
    plan=MemoryPlan((MemoryRow("frozen weights", 2_000_000),)),
)


class Screen(io.TextIOWrapper):
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
    monkeypatch.setattr(terminal_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal_module, "resident_bytes", lambda: 96_000_000)
    monkeypatch.setenv("COLUMNS", "120")
    return now


def started(screen: io.TextIOBase) -> Terminal:
    """A terminal that has shown the start of a run; what it wrote is forgotten."""
    terminal = Terminal(screen)  # type: ignore[arg-type]
    terminal.hear(STARTED)
    screen.seek(0)
    screen.truncate()
    return terminal


def step(number: int, left: float | None = None) -> Step:
    return Step(1, number, number, 0.5, 0.75, 8.0, left)


def test_the_start_says_what_is_trained_and_planned(clock: list[float]) -> None:
    stream = io.StringIO()
    Terminal(stream).hear(STARTED)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "2 classes, 0 pictures to train on, 0 to validate on, 0 skipped"
    assert lines[1:4] == [
        "class  train  validate",
        "ant        0         0",
        "bee        0         0",
    ]
    assert lines[4] == "note: mind the gap"
    assert lines[-1].split()[-1] == "2.0"


def test_live_line(clock: list[float]) -> None:
    screen = Screen()
    terminal = started(screen)
    clock[0] += 2.0
    terminal.hear(step(3, left=34.0))
    line = screen.sent().split("\r\x1b[K")[-1]
    assert line == (
        "epoch 1/2  step 3/10  loss 0.500  accuracy 75.0%  8.0 pictures/s  96 MB  0:34 left"
    )


def test_line_fits_the_terminal(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    started(screen).hear(step(1))
    assert screen.sent() == "\r\x1b[Kepoch 1/2  step 1/10"[: 4 + 19]


def test_line_is_not_rewritten_all_the_time(clock: list[float]) -> None:
    screen = Screen()
    terminal = started(screen)
    for number in range(1, 11):
        clock[0] += 0.05
        terminal.hear(step(number))
    assert 1 < screen.sent().count("\r") < 5


def test_epoch_line_stays(clock: list[float]) -> None:
    screen = Screen()
    started(screen).hear(Epoch(ROW, 1.0))
    assert screen.sent() == (
        "\r\x1b[Kepoch 1/2  train loss 0.500 accuracy 75.0%  val loss 0.250 accuracy 87.5%  "
        "12.5 pictures/s  96 MB (peak 110)  1:15\n"
    )


def test_elsewhere_only_lasting_lines(clock: list[float]) -> None:
    stream = io.StringIO()
    terminal = started(stream)
    terminal.hear(Part("caching", 1, 5))
    terminal.hear(step(1))
    assert stream.getvalue() == ""
    terminal.hear(Epoch(ROW, 1.0))
    terminal.hear(Note("hello"))
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().splitlines()[1] == "hello"


def test_names_cannot_move_the_cursor(clock: list[float]) -> None:
    screen = Screen()
    started(screen).hear(Note("class 'Grün\n\x1b[2J'"))
    assert screen.sent() == "\r\x1b[Kclass 'Gr\\xfcn\\n\\x1b[2J'\n"


def test_closed_terminal_does_not_stop_the_training(clock: list[float]) -> None:
    screen = Screen()
    terminal = started(screen)
    screen.close()
    terminal.hear(Note("nobody reads this"))
    terminal.hear(step(1))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3675, "1:01:15")]
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
