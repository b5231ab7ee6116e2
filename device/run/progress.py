"""Shows a run: one line that is rewritten on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TextIO

from mobiletl.device.memory.plan import resident_bytes
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import Position
from mobiletl.device.run.metrics import EpochMetrics
from mobiletl.device.run.schedule import Schedule

# A slow serial console should not slow the training down.
REFRESH_S = 0.2
# Share of the newest step in the running mean of a step's duration.
NEWEST = 0.1
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Writes to `stream`, standard error as a rule.

    A stream that breaks (a closed terminal) ends the showing, not the training.
    """

    def __init__(self, stream: TextIO, schedule: Schedule) -> None:
        """Write nothing yet."""
        self._stream = stream
        self._schedule = schedule
        self._live = stream.isatty()
        self._shown_at = 0.0
        self._step_started: float | None = None
        self._step_s: float | None = None
        self._score_s = 0.0

    def note(self, text: str) -> None:
        """Write a lasting line."""
        self._write(f"{CLEAR_LINE if self._live else ''}{self._safe(text)}\n")

    def part(self, name: str, done: int, total: int) -> None:
        """Show how far some work that is no step has come."""
        self._step_started = None
        self._show(f"{name} {done}/{total} pictures")

    def step(self, epoch: int, position: Position) -> None:
        """Show the figures of the epoch under way after a step."""
        self._time_step()
        schedule = self._schedule
        of_epoch = position.step - (epoch - 1) * schedule.steps_per_epoch
        seen = max(position.seen, 1)
        cells = [
            f"epoch {epoch}/{schedule.epochs}",
            f"step {of_epoch}/{schedule.steps_per_epoch}",
            f"loss {position.loss_sum / seen:.3f}",
            f"accuracy {position.correct / seen:.1%}",
            f"{position.seen / max(position.seconds, 1e-9):.1f} pictures/s",
        ]
        left = self._seconds_left(epoch, position.step)
        self._show("  ".join(cells), left)

    def epoch(self, row: EpochMetrics, score_seconds: float) -> None:
        """Write the figures of an epoch; the evaluation took `score_seconds` of it."""
        self._step_started = None
        self._score_s = score_seconds
        self.note(epoch_line(row, self._schedule.epochs))

    def _show(self, text: str, seconds_left: float | None = None) -> None:
        now = time.monotonic()
        if not self._live or now - self._shown_at < REFRESH_S:
            return
        self._shown_at = now
        line = f"{text}  {resident_bytes() / 1e6:.0f} MB"
        if seconds_left is not None:
            line += f"  {duration(seconds_left)} left"
        columns = shutil.get_terminal_size().columns
        self._write(CLEAR_LINE + self._safe(line)[: columns - 1])

    def _time_step(self) -> None:
        """Keep a running mean of the time from one step's end to the next one's."""
        now = time.monotonic()
        if self._step_started is not None:
            took = now - self._step_started
            mean = took if self._step_s is None else self._step_s
            self._step_s = mean + NEWEST * (took - mean)
        self._step_started = now

    def _seconds_left(self, epoch: int, step: int) -> float | None:
        if self._step_s is None:
            return None
        evaluations = self._schedule.epochs - epoch + 1
        return (self._schedule.steps - step) * self._step_s + evaluations * self._score_s

    def _safe(self, text: str) -> str:
        return printable(text, self._stream.encoding)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def epoch_line(row: EpochMetrics, epochs: int) -> str:
    """Return the lasting line of an epoch; epoch 0 is the state before training."""
    cells = [f"epoch {row.epoch}/{epochs}" if row.epoch else "before training"]
    if row.train_loss is not None and row.train_accuracy is not None:
        cells.append(f"train loss {row.train_loss:.3f} accuracy {row.train_accuracy:.1%}")
    cells.append(f"val loss {row.val_loss:.3f} accuracy {row.val_accuracy:.1%}")
    if row.pictures_per_s is not None:
        cells.append(f"{row.pictures_per_s:.1f} pictures/s")
    cells.append(f"{row.rss_bytes / 1e6:.0f} MB (peak {row.peak_bytes / 1e6:.0f})")
    cells.append(duration(row.seconds))
    return "  ".join(cells)


def duration(seconds: float) -> str:
    """Return minutes:seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
