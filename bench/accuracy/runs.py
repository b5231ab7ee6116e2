"""One training run in a process of its own: started, gone on with, or stopped with this one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accuracy.results import Key, Outcome
from mobiletl.device.errors import Diverged, Interrupted, MobileTLError
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.events import EpochMetrics
from mobiletl.device.run.metrics import MetricsFile

STOPPED = "stopped; the same command goes on where it was"


class RunFailed(MobileTLError):
    """A run ended with an error of its own, whose line and exit code these are."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.exit_code = code


@dataclass(frozen=True)
class Order:
    """A run to make: `key` says how, `folder` is its own, `cache` None keeps no feature maps."""

    key: Key
    bundle: Path
    pictures: Path
    folder: Path
    cache: Path | None


def carry_out(order: Order) -> Outcome:
    """Train to the end, from where an earlier attempt was stopped if there is one.

    The bundle's own runner does it, as on a board. What it says goes to `<folder>.log`. Raises
    Interrupted once it has saved its state, RunFailed for any other error of the run.
    """
    run = RunFolder(order.folder)
    resume = run.resumable()
    if not resume:
        shutil.rmtree(order.folder, ignore_errors=True)
    order.folder.parent.mkdir(parents=True, exist_ok=True)
    log = order.folder.with_suffix(".log")
    code, printed = _call(_command(order, resume), log)
    metrics = MetricsFile(run.metrics).rows()
    if code == Interrupted.exit_code:
        raise Interrupted(STOPPED)
    if code == Diverged.exit_code:
        return Outcome(
            (), (), (), max((row.peak_bytes for row in metrics), default=0), 0, 0.0, True
        )
    if code != 0:
        raise RunFailed(_last_line(log), code)
    return _outcome(json.loads(printed), metrics)


def _command(order: Order, resume: bool) -> list[str]:
    key = order.key
    settings = {
        "--bundle": order.bundle,
        "--data": order.pictures,
        "--resume" if resume else "--out": order.folder,
        "--epochs": key.epochs,
        "--batch": key.batch,
        "--lr": key.lr,
        "--seed": key.seed,
        "--threads": key.threads,
        **({} if order.cache is None else {"--cache": order.cache}),
    }
    words = [str(order.bundle / "device" / "train_on_board.py"), "--json"]
    # Crops that come again would be trained on without the layers below, and not all methods can.
    words += ["--views", "0"] if key.augment else ["--no-augment"]
    words += ["--no-cache"] * (order.cache is None)
    words += ["--replay-mb", "0"]
    words += [str(word) for pair in settings.items() for word in pair]
    return [sys.executable, *words]


def _call(command: list[str], log: Path) -> tuple[int, str]:
    """(exit code, what it printed). A signal that stops this process stops the run first: Ctrl-C
    saves its state, a second one ends it at once.
    """
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # A terminal's Ctrl-C reaches this process alone, which passes it on once.
            start_new_session=True,
        )
    with process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            try:
                process.send_signal(signal.SIGINT)
                process.wait()
            except KeyboardInterrupt:
                process.kill()
            raise Interrupted(STOPPED) from None
    return process.returncode, printed


def _outcome(report: dict[str, Any], metrics: list[EpochMetrics]) -> Outcome:
    trained = [row for row in metrics if row.epoch]
    # A run that was stopped in between had several processes.
    peaks = [report["memory"]["measured_peak_bytes"], *(row.peak_bytes for row in metrics)]
    return Outcome(
        accuracies=tuple(row.val_accuracy for row in trained),
        losses=tuple(row.val_loss for row in trained),
        pictures_per_s=tuple(row.pictures_per_s or 0.0 for row in trained),
        peak_bytes=max(peaks),
        planned_bytes=report["memory"]["planned_bytes"],
        seconds=sum(row.seconds for row in metrics),
    )


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("mobiletl: ")]
    return said[-1].removeprefix("mobiletl: ") if said else f"a run failed, see the end of {log}"
