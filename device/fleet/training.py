"""One round on a board: an ordinary run from the round's parameters, on the board's own pictures.

A round returns the last state and not the best. What a server averages are steps that boards have
taken from one place; a board that kept its best epoch would choose it on a handful of pictures, and
mostly return nothing new.

A board may have pictures of some of the fleet's classes only. Rows of the classifier of which it
has no picture come back as they were: a board forgets nothing of what it has never seen. Its
softmax is over its own classes, or over all of the fleet's, which also tells its pictures from
what others have, but pushes the features away from rows that nothing holds. docs/fleet.md
compares the two.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.state_file import LAST, load_state
from mobiletl.device.errors import SitsOut
from mobiletl.device.fleet.asked import OWN, Asked
from mobiletl.device.fleet.board import Board
from mobiletl.device.fleet.sitting_out import sits_out
from mobiletl.device.memory.plan import plan
from mobiletl.device.pictures.dataset import Dataset, open_dataset
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.events import Epoch, EpochMetrics, Event, Step
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.options import DEFAULTS, Options
from mobiletl.device.run.start import Start
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.training import train

# The split and the order of the pictures follow from it. It is the same in all rounds: a picture
# that validates never trains.
SEED = 0
FLOAT_BYTES = 4
# What Flower and gRPC take in the process that answers a round, beside a run's own libraries
# (Flower 1.22, gRPC 1.80, Python 3.9: resident memory before and after the import, docs/fleet.md).
FLOWER_BYTES = 64_000_000
# Of one number, what masking it takes: changes, steps, masks and sums in 64 bits (sums.py; 56 by an
# allocation counter, 1.5 million numbers and four boards, and 8 on their way).
SUM_BYTES = 64


@dataclass(frozen=True)
class Trained:
    """What came of a round on this board: everything of the state that lasts, of all classes."""

    tensors: Tensors
    pictures: int
    """How many were trained on."""
    metrics: dict[str, float]
    """By name, every name in each round; what a server averages over its boards."""


def train_round(board: Board, asked: Asked, tensors: Tensors) -> Trained:
    """Train on `board` from the parameters `tensors`, as the round asks.

    Raises SitsOut where it takes no part, and whatever ends a run.
    """
    bundle = open_bundle(board.bundle, require_signature=board.signed_by)
    manifest = bundle.manifest
    dataset = round_pictures(board, asked)
    seen = own_classes(dataset)
    _check(board, asked, bundle, dataset, seen)
    names = seen if asked.softmax == OWN else dataset.class_names
    whole = Start(
        with_slots(manifest, tensors, len(asked.class_names)),
        asked.class_names,
        f"round {asked.round}",
    )
    rows = [asked.class_names.index(name) for name in names]
    ended = _run(board, asked, bundle, whole.with_rows(manifest, rows, names))
    kept = [(asked.class_names.index(name), names.index(name)) for name in seen]
    lasting = with_rows_back(manifest, tensors, ended.tensors, kept)
    return Trained(lasting, len(dataset.train), ended.metrics())


def round_pictures(board: Board, asked: Asked) -> Dataset:
    """Return the board's pictures of the round's classes; raises BadPictures, PicturesAway."""
    classes = asked.class_names
    return open_dataset(board.data, board.val_split, SEED, classes).only(classes)


def own_classes(dataset: Dataset) -> tuple[str, ...]:
    """Return the classes that the board has pictures of to train on, in the data set's order."""
    seen = {picture.label for picture in dataset.train}
    return tuple(name for label, name in enumerate(dataset.class_names) if label in seen)


def with_slots(manifest: Manifest, tensors: Tensors, classes: int) -> Tensors:
    """Return `tensors` with empty slots: an optimizer begins afresh in every round."""
    slots = {
        entry.name: np.zeros(entry.shape_for(classes), np.float32)
        for entry in manifest.state
        if entry.role == "slot"
    }
    return {**tensors, **slots}


def with_rows_back(
    manifest: Manifest, began: Tensors, ended: Tensors, rows: Sequence[tuple[int, int]]
) -> Tensors:
    """Return what lasts of `ended`; of classes, each first of `rows` is the second one of `ended`,
    and the others are those of `began`.
    """
    tensors: Tensors = {}
    for entry in manifest.state:
        if entry.role == "slot":
            continue
        tensor = ended[entry.name]
        if "K" in entry.shape:
            axis = entry.shape.index("K")
            tensor = began[entry.name].copy()
            trained = np.moveaxis(ended[entry.name], axis, 0)
            np.moveaxis(tensor, axis, 0)[[row for row, _ in rows]] = trained[[r for _, r in rows]]
        tensors[entry.name] = tensor
    return tensors


@dataclass
class _Ended(Listener):
    """Hears a run: its figures, and when its time is up."""

    stop: StopFlag
    deadline: float
    """On the monotonic clock."""
    tensors: Tensors = field(default_factory=dict)
    epochs: list[EpochMetrics] = field(default_factory=list)
    loss: float = 0.0
    """Of the epoch under way."""
    steps: int = 0
    began: float = field(default_factory=time.monotonic)

    def hear(self, event: Event) -> None:
        """See Listener."""
        if isinstance(event, Epoch):
            self.epochs.append(event.metrics)
        if isinstance(event, Step):
            self.loss, self.steps = event.loss, event.step
            if time.monotonic() > self.deadline:
                self.stop.request()

    def metrics(self) -> dict[str, float]:
        first, last = self.epochs[0], self.epochs[-1]
        return {
            "loss": self.loss if last.train_loss is None else last.train_loss,
            "accuracy-before": first.val_accuracy,
            "accuracy-after": last.val_accuracy,
            "steps": float(self.steps),
            "seconds": time.monotonic() - self.began,
            "peak-bytes": float(last.peak_bytes or 0),
        }


def _run(board: Board, asked: Asked, bundle: Bundle, start: Start) -> _Ended:
    """Train, and return the last state with its figures."""
    stop = StopFlag()
    deadline = time.monotonic() + asked.seconds if asked.seconds else float("inf")
    ended = _Ended(stop, deadline)
    _clear(board)
    options = Options(
        bundle=board.bundle,
        data=board.data,
        run=board.run,
        resume=False,
        given={
            "epochs": asked.epochs,
            "batch": asked.batch,
            "lr": asked.lr,
            "seed": SEED,
            "val_split": board.val_split,
            "augment": False,
        },
        cache=board.maps,
        threads=board.threads,
        replay_bytes=0,
        classes=start.class_names,
        proximal=asked.proximal,
        answers=False,
        key=board.signed_by,
    )
    with contextlib.suppress(StopRequested):
        train(options, [ended], stop, start)
    ended.tensors, _ = load_state(RunFolder(board.run).state(LAST), bundle.manifest)
    return ended


def _clear(board: Board) -> None:
    """Remove the run of the last round, whole or cut off; raises NoSpace."""
    try:
        if board.run.exists():
            shutil.rmtree(board.run)
    except OSError as error:
        raise cannot_write("the run of this round", board.run, error) from error


def _check(
    board: Board, asked: Asked, bundle: Bundle, dataset: Dataset, seen: Sequence[str]
) -> None:
    if not seen:
        raise SitsOut("it has no picture of the fleet's classes")
    if asked.softmax == OWN and len(seen) < 2:
        raise SitsOut(f"it has pictures of '{seen[0]}' alone, and there is nothing to tell apart")
    if not dataset.val:
        raise SitsOut("it has one picture a class, and none is left to validate on")
    why = sits_out(board, planned_bytes(asked, bundle, dataset))
    if why is not None:
        raise SitsOut(why)


def planned_bytes(asked: Asked, bundle: Bundle, dataset: Dataset) -> int:
    """Return what a round is planned with: a run, Flower, and the parameters on their way."""
    manifest, classes = bundle.manifest, len(asked.class_names)
    micro_batch = int(DEFAULTS["micro_batch"])
    planned = plan(
        manifest,
        asked.batch,
        classes,
        micro_batch,
        decoding=dataset.decoding_bytes,
        pictures=dataset.pictures,
    )
    numbers = sum(
        int(np.prod(entry.shape_for(classes))) for entry in manifest.state if entry.role != "slot"
    )
    # The round's parameters, those that are sent, and what is left to send, beside the run's own.
    copies = 4 if asked.proximal else 3
    each = copies * FLOAT_BYTES + (SUM_BYTES if asked.secagg else 0)
    return planned.total_bytes + FLOWER_BYTES + each * numbers
