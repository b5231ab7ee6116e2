"""What happens in a run, as objects that every listener hears, and as a line of JSON each.

`docs/events.md` is the schema of those lines. Losses are mean cross-entropies, accuracies shares
from 0 to 1, times seconds, memory bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Union

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.wear import NO_WEAR, Wear
from mobiletl.device.memory.plan import MemoryPlan
from mobiletl.device.neighbour.changes import NO_STAY, Continued, Paused, Stay
from mobiletl.device.pictures.dataset import Dataset, Skipped
from mobiletl.device.run.checkpoints import Position

HOUR_S = 3600.0
# How a call can end.
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Started:
    """Everything is settled and nothing is trained yet; a resumed run starts again."""

    run: str
    """Folder of the run."""
    bundle: str
    """Folder of the bundle."""
    bundle_id: str
    origin: str
    """Where the state comes from: `bundle`, `resume`, or what the caller's Start says."""
    dataset: Dataset
    settings: Mapping[str, Any]
    """The settled settings (checkpoints.Settings) by name."""
    epochs: int
    steps_per_epoch: int
    position: Position
    """How far an earlier call of the same run has come."""
    plan: MemoryPlan

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        dataset = self.dataset
        return {
            "run": self.run,
            "bundle": self.bundle,
            "data": str(dataset.root),
            "bundle_id": self.bundle_id,
            "origin": self.origin,
            "classes": list(dataset.class_names),
            "pictures": {"train": len(dataset.train), "val": len(dataset.val)},
            "class_pictures": class_pictures(dataset),
            "layout": dataset.layout,
            "skipped": len(dataset.skipped),
            "notes": list(dataset.notes),
            "settings": dict(self.settings),
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "epoch": self.position.epoch,
            "step": self.position.step,
            "planned_bytes": self.plan.total_bytes,
        }


def class_pictures(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return how many pictures of each class there are, as JSON says it."""
    return {name: {"train": train, "val": val} for name, (train, val) in dataset.counts().items()}


@dataclass(frozen=True)
class Note:
    """A sentence that a person should read."""

    text: str

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return {"text": self.text}


@dataclass(frozen=True)
class Part:
    """How far some work that is no step has come, in pictures."""

    name: str
    done: int
    total: int

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Expected:
    """How long the steps and evaluations that are left will take, timed on a batch of the run."""

    seconds: float

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """A step was taken; loss and accuracy are those of the epoch so far."""

    epoch: int
    """The epoch under way, counted from 1."""
    step: int
    """Steps of the whole run."""
    step_of_epoch: int
    loss: float
    accuracy: float
    pictures_per_s: float
    seconds_left: float | None
    """Of the whole run; None until a step was timed."""

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch; epoch 0 is the state before training, which has no training figures.

    Losses are mean cross-entropies, accuracies shares from 0 to 1. Training figures come from
    forward passes while the state changes, validation figures from the state after the epoch.
    """

    epoch: int
    step: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float
    val_accuracy: float
    lr: float | None
    """Learning rate of the epoch's last step."""
    pictures_per_s: float | None
    """Training pictures per second, evaluation not counted."""
    rss_bytes: int
    peak_bytes: int
    seconds: float
    """Wall time of training and evaluating."""


@dataclass(frozen=True)
class Epoch:
    """An epoch was trained and evaluated; epoch 0 is the state before training."""

    metrics: EpochMetrics
    score_seconds: float
    """How much of the epoch's time the evaluation took."""

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return {**asdict(self.metrics), "score_seconds": self.score_seconds}


@dataclass(frozen=True)
class Saved:
    """A state is on the disk: `best` before training and after an epoch that beat all others."""

    kind: str
    path: str
    epoch: int
    step: int

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Ended:
    """The call is over. `outcome` is `finished`, `stopped` or `failed`; a stopped run can go on."""

    outcome: str
    message: str
    """What a failed run says, on one line; empty otherwise."""
    exit_code: int
    """What `mobiletl train` exits with (docs/exit-codes.md)."""
    seconds: float
    measured_peak_bytes: int
    position: Position
    skipped: tuple[Skipped, ...]
    """Files that were left out, those found damaged during training included."""
    answers: Answers | None = None
    """How sure the best state may be; None where the run did not finish, or nothing is known."""
    wear: Wear = NO_WEAR
    """What this call has written, up to here."""
    stay: Stay = NO_STAY
    """What it has seen of the machine."""
    kept: Mapping[str, Any] | None = None
    """What is kept of the run (settling.Kept); None where that is its best epoch as it is."""

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        best = self.position.best
        latest = self.position.latest
        return {
            "outcome": self.outcome,
            "message": self.message,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "measured_peak_bytes": self.measured_peak_bytes,
            "epoch": self.position.epoch,
            "step": self.position.step,
            "best_epoch": best.epoch if best else None,
            "best_accuracy": best.score.accuracy if best else None,
            "last_accuracy": latest.accuracy if latest else None,
            "skipped": len(self.skipped),
            "answers": None if self.answers is None else self.answers.document(),
            "kept": None if self.kept is None else dict(self.kept),
            "written": written(self.wear, self.seconds),
            **self.stay.document(),
        }


def written(wear: Wear, seconds: float) -> dict[str, float]:
    """Return what was written in so many seconds, as JSON says it."""
    hours = max(seconds, 1e-9) / HOUR_S
    return {
        "bytes": wear.bytes,
        "fsyncs": wear.fsyncs,
        "bytes_per_hour": round(wear.bytes / hours),
        "fsyncs_per_hour": round(wear.fsyncs / hours),
    }


Event = Union[Started, Note, Part, Expected, Step, Epoch, Saved, Paused, Continued, Ended]
# What a line of JSON calls each.
NAMES: Mapping[type, str] = {
    Started: "started",
    Note: "note",
    Part: "part",
    Expected: "expected",
    Step: "step",
    Epoch: "epoch",
    Saved: "saved",
    Paused: "paused",
    Continued: "continued",
    Ended: "ended",
}
