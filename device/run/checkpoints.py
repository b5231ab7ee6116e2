"""What a run keeps in its folder; restoring.py is how a stopped run finds its place again.

state.safetensors   the state after the best epoch so far: what `predict` takes
last.safetensors    the state of the last save, with the place to resume from
began.safetensors   what a run began from that follows another with other classes, until it ends
metrics.jsonl       one line per epoch
events.jsonl        what happened, a line each (docs/events.md)
plot.png            loss and accuracy
skipped.txt         files that were left out, if any
pictures.jsonl      which pictures were read, and which are damaged (picture_record.py)
.lock               who works on it, while somebody does (claim.py)
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.decode import DECODING_LIMIT
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.replacing import leftovers, sync_file
from mobiletl.device.bundle.state_file import (
    BEST,
    LAST,
    Refuse,
    StateInfo,
    is_usable,
    open_state,
    previous_generation,
    save_state,
)
from mobiletl.device.bundle.stored_state import StoredState
from mobiletl.device.bundle.view import View
from mobiletl.device.errors import Diverged
from mobiletl.device.pictures.layouts import AUTO
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.evaluation import Score


@dataclass(frozen=True)
class Settings:
    """What must be the same for a resumed run to end where the uninterrupted one would.

    But for `runtime`: a run may go on with another one, which rounds otherwise.
    """

    epochs: int
    batch: int
    lr: float
    seed: int
    augment: bool
    views: int
    """Views of a training picture that take turns; 0 stands for a fresh one in every epoch."""
    start: str
    """Where the classifier comes from if no state is given: "closed-form" or "random"."""
    val_split: float
    micro_batch: int
    runtime: str
    pictures: str
    """Fingerprint of the data set."""
    layout: str = AUTO
    """Which folders are the classes, one of `pictures.layout.LAYOUTS`."""
    decode_memory: int = DECODING_LIMIT
    """Bytes; pictures that take more while they are decoded are left out."""
    threads: int = 0
    """How many threads a step has: sums round by it. 0 in runs from before it was kept."""
    begins: str = ""
    """Hash of the state that the run began from; empty for the bundle's."""
    blocks: int = 0
    """Of the level that is trained; 0 in runs from before it was kept: a state's fit says it."""


# How a person names a setting, for the line that refuses a resume.
FLAGS = {
    "epochs": "--epochs",
    "batch": "--batch",
    "lr": "--lr",
    "seed": "--seed",
    "augment": "--augment",
    "views": "--views",
    "start": "--start",
    "layout": "--layout",
    "decode_memory": "--decode-memory",
    "val_split": "--val-split",
    "micro_batch": "--micro-batch",
    "threads": "--threads",
    "pictures": "the pictures",
    "begins": "the state to begin from",
}
# What a state says of how it came to be kept (settling.py).
KEPT = "kept"
# Of these, values tell a person nothing.
UNSAID = ("pictures", "begins")


@dataclass(frozen=True)
class Best:
    """The epoch that is kept: the latest that no other is clearly better than (righting.py).

    Epoch 0 is the state that the run began from. `top` is the highest accuracy of any epoch.
    """

    epoch: int
    score: Score
    top: float


@dataclass(frozen=True)
class Position:
    """How far a run is: `epoch` epochs are trained and evaluated, `step` steps are taken.

    The other numbers belong to the epoch under way: sums over its pictures so far.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    cuts: int = 0
    """How many times the rate was cut (righting.py)."""
    before: Score | None = None
    best: Best | None = None
    latest: Score | None = None


class RunFolder:
    """Saves and loads the states of one run."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path
        self.best = path / "state.safetensors"
        self.last = path / "last.safetensors"
        self.began = path / "began.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.events = path / "events.jsonl"
        self.plot = path / "plot.png"
        self.skipped = path / "skipped.txt"
        self.pictures = path / "pictures.jsonl"
        self.lock = path / ".lock"

    def state(self, kind: str) -> Path:
        """Return the file of the `best` or the `last` state."""
        return {BEST: self.best, LAST: self.last}[kind]

    def holds_run(self) -> bool:
        """Whether a run has saved a state here."""
        states = (self.best, self.last)
        return any(state.exists() or previous_generation(state).exists() for state in states)

    def begun(self) -> bool:
        """Whether a run has begun here, though it may have saved nothing yet."""
        return self.events.exists() or bool(leftovers(self.last))

    def discard(self) -> None:
        """Remove the states and the records of a run that has trained nothing."""
        states = (self.best, self.last, self.began)
        records = (self.metrics, self.events, self.pictures, self.plot)
        files = [*states, *map(previous_generation, states), *records]
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()

    def resumable(self) -> bool:
        """Whether there is a state to resume from: a whole temporary is one, too."""
        return self.holds_run() or any(map(is_usable, leftovers(self.last)))


class Checkpoints:
    """Writes the states of one run; a state that is not finite never reaches the disk."""

    def __init__(
        self,
        folder: RunFolder,
        manifest: Manifest,
        class_names: tuple[str, ...],
        settings: Settings,
        view: View | None = None,
    ) -> None:
        """Write nothing yet; `view` is that of the data set."""
        self.folder = folder
        self._manifest = manifest
        self._class_names = class_names
        self._settings = settings
        self._view = view

    def save(self, kind: str, tensors: Tensors, position: Position) -> None:
        """Save `tensors` as the `best` or the `last` state; raises Diverged or NoSpace and leaves
        the former file as it was.
        """
        self.check(tensors, position)
        if kind == LAST:
            self._sync_records()
        save_state(self.folder.state(kind), tensors, self.info(kind, position))

    def check(self, tensors: Tensors, position: Position) -> None:
        """Raise Diverged for a tensor that is not finite."""
        broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
        if broken:
            raise Diverged(
                f"{broken[0]} and {len(broken) - 1} more tensors are no longer finite after step "
                f"{position.step}"
            )

    def info(self, kind: str, position: Position) -> StateInfo:
        """Return what the file of the `best` or the `last` state says of it."""
        return StateInfo(
            fit=self._manifest.fit,
            class_names=self._class_names,
            epoch=position.epoch,
            step=position.step,
            seed=self._settings.seed,
            best_accuracy=position.best.score.accuracy if position.best else None,
            settings={"run": asdict(self._settings), "position": asdict(position)},
            view=self._view,
            role=kind,
        )

    def _sync_records(self) -> None:
        """Have the epochs' lines reach the disk: a state stands for all epochs up to its own."""
        for path in (self.folder.metrics, self.folder.events, self.folder.pictures):
            try:
                sync_file(path)
            except OSError as error:
                raise cannot_write("the record of the run", path, error) from error

    def open(self, kind: str, epoch: int | None = None) -> StoredState:
        """Open the `best` or the `last` state, whose tensors are read one by one.

        With `epoch` it is the generation of that epoch. Raises BadState.
        """
        return self._open(kind, epoch)[0]

    def ended(self, epoch: int) -> tuple[Mapping[str, Any] | None, Answers | None]:
        """Return what the best state, of `epoch`, says of what was kept (settling.py), and of its
        answers; None until the run has ended. Raises BadState.
        """
        stored, info = self._open(BEST, epoch)
        stored.close()
        return info.settings.get(KEPT), info.answers

    def end(
        self, tensors: Tensors, kept: Mapping[str, Any] | None, answers: Answers | None, epoch: int
    ) -> None:
        """Save `tensors`, what is kept of the best state, of `epoch`, in its place, with its
        `answers`; raises NoSpace.
        """
        stored, info = self._open(BEST, epoch)
        stored.close()
        settings = info.settings if kept is None else {**info.settings, KEPT: kept}
        save_state(
            self.folder.best,
            tensors,
            replace(info, settings=settings, answers=answers, role=BEST),
        )

    def keep_began(self, tensors: Tensors | None) -> None:
        """Save what the run begins from, or nothing; raises NoSpace."""
        began = self.folder.began
        for file in (began, previous_generation(began)):
            with contextlib.suppress(OSError):
                file.unlink()
        if tensors is not None:
            save_state(began, tensors, replace(self.info(BEST, Position()), role=None))

    def _open(self, kind: str, epoch: int | None) -> tuple[StoredState, StateInfo]:
        refuse = of_run(kind, asdict(self._settings), self._class_names, epoch)
        return open_state(self.folder.state(kind), self._manifest, refuse)

    def advice(self) -> str:
        """What to do about numbers that have left the range, and what is left of the run."""
        kept = "the last good state is kept" if self.folder.holds_run() else "nothing is saved yet"
        where = printable(str(self.folder.path))
        return f"try a lower --lr than {self._settings.lr:g} ({kept} in {where})"


def not_kept(info: StateInfo) -> str | None:
    """Refuse a state that a run has ended with, from which it cannot go on."""
    return "is what the run has ended with" if KEPT in info.settings else None


def of_role(role: str) -> Refuse:
    """Refuse a state that is another one of its run."""

    def refuse(info: StateInfo) -> str | None:
        wrong = info.role not in (None, role)
        return f"is the {info.role} state of a run, expected the {role} one" if wrong else None

    return refuse


def of_run(
    role: str, settings: Mapping[str, Any], class_names: tuple[str, ...], epoch: int | None = None
) -> Refuse:
    """Refuse a state of another role, of a run with other `settings` or classes, and where `epoch`
    is given, of another epoch.
    """
    right_role = of_role(role)

    def refuse(info: StateInfo) -> str | None:
        saved = info.settings.get("run")
        saved = saved if isinstance(saved, dict) else {}
        # A run may go on with another runtime, and from before its threads were kept.
        decisive = [name for name in FLAGS if name in saved and name not in ("runtime", "threads")]
        if info.class_names != class_names or any(saved[n] != settings[n] for n in decisive):
            return "is a state of another run"
        if epoch is not None and info.epoch != epoch:
            return f"is of epoch {info.epoch}, where {epoch} is expected"
        return right_role(info)

    return refuse
