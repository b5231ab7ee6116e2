"""Simulated boards: what Flower's simulation engine calls in place of a board's ClientApp."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bench.fleet.pictures import Maps, load_maps, shares
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.fleet.asked import Asked, asked_of, personal_names, round_shapes
from mobiletl.device.fleet.board import LEFT, PERSONAL, Board
from mobiletl.device.fleet.client_app import (
    ARRAYS,
    BOARD,
    CONFIG,
    FAILED,
    METRICS,
    PICTURES,
    SITS_OUT,
    contents_of,
    record_of,
)
from mobiletl.device.fleet.coding import sent_bytes, upwards
from mobiletl.device.fleet.training import with_rows_back, with_slots
from mobiletl.device.fleet.wire import read_down
from mobiletl.device.run.anchor import Anchor
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.run.start import Start
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session

# Told by the process that starts the simulation to those in which boards live.
SCENE = "MOBILETL_BENCH_FLEET"
# Over which classes a board has its softmax: all, and rows without pictures come back as they were;
# all; its own.
RESTORED, ALL, OWN = "restored", "all", "own"
# A slow board comes to this part of a round's steps before its time is up.
SLOWER = 3

app = ClientApp()


class Scene:
    """What all boards of a process have in common; opened once in it."""

    def __init__(self, text: str) -> None:
        """`text` is made by `scene_text`."""
        bundle, data, cache, boards, alpha, seed, drops, slow, home = text.split("\n")
        self.bundle: Bundle = open_bundle(Path(bundle))
        self.maps: Maps = load_maps(self.bundle, Path(data), Path(cache), 1)
        self.rows = shares(self.maps.train_labels, int(boards), float(alpha), int(seed))
        self.drops, self.home = float(drops), Path(home)
        self.slow = np.random.default_rng((int(seed), 1)).random(int(boards)) < float(slow)
        self._sessions: dict[int, Session] = {}

    @property
    def softmax(self) -> str:
        """Over which classes boards have it in the run under way; its own process writes that."""
        return (self.home / "softmax").read_text(encoding="ascii")

    def session(self, classes: int, state: Any) -> Session:
        """Return the session of so many classes, with a copy of `state`."""
        if classes not in self._sessions:
            self._sessions[classes] = open_session(self.bundle, classes, state, 1)
        else:
            self._sessions[classes].load(state)
        return self._sessions[classes]


def scene_text(*values: object) -> str:
    """Return what `Scene` reads, in its order."""
    return "\n".join(map(str, values))


@lru_cache(maxsize=1)
def scene() -> Scene:
    """Return the scene of this process."""
    return Scene(os.environ[SCENE])


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """Train one board, unless it drops out."""
    here, number = scene(), int(context.node_config["partition-id"])
    manifest = here.bundle.manifest
    asked = asked_of(dict(message.content.config_records[CONFIG]), manifest)
    if np.random.default_rng((asked.round, number)).random() < here.drops:
        return Message(Error(FAILED, f"board {number} drops out"), reply_to=message)
    rows = here.rows[number]
    labels = here.maps.train_labels[rows]
    seen = sorted(set(labels.tolist()))
    if here.softmax == OWN and len(seen) < 2:
        return Message(Error(SITS_OUT, f"board {number} has one class"), reply_to=message)
    mine = seen if here.softmax == OWN else list(range(len(asked.class_names)))
    shapes = round_shapes(manifest, len(asked.class_names))
    arrays = read_down(contents_of(message.content.array_records[ARRAYS]), shapes)
    shared = {name: array.astype(np.float32) for name, array in arrays.items()}
    board = Board(here.home / str(number), str(number), Path(), Path())
    board.home.mkdir(parents=True, exist_ok=True)
    home = personal_names(manifest, asked.personal)
    begin = {**shared, **board.kept(PERSONAL, asked.fit)}
    ended = _trained(here, asked, begin, rows, mine, SLOWER if here.slow[number] else 1)
    sent, left = upwards(
        shared,
        {name: tensor for name, tensor in ended.items() if name not in home},
        board.kept(LEFT, asked.fit),
        asked.encoding,
    )
    board.keep(PERSONAL, {name: ended[name] for name in sorted(home)}, asked.fit)
    board.keep(LEFT, left, asked.fit)
    figures = {
        PICTURES: len(rows),
        "bytes-up": sent_bytes(sent),
        "bytes-down": sent_bytes(arrays),
    }
    return Message(
        RecordDict(
            {
                ARRAYS: record_of(sent),
                METRICS: MetricRecord(figures),
                BOARD: ConfigRecord({"name": str(number)}),
            }
        ),
        reply_to=message,
    )


def _trained(here: Scene, asked: Asked, begin: Any, rows: Any, mine: list[int], slower: int) -> Any:
    """Take a round's steps on the board's maps, as a run does, and return what lasts.

    A board that is `slower` takes that part of them, as one does whose time is up.
    """
    manifest, maps = here.bundle.manifest, here.maps
    names = tuple(asked.class_names[label] for label in mine)
    whole = Start(with_slots(manifest, begin, len(asked.class_names)), asked.class_names, "round")
    start = whole.with_rows(manifest, mine, names)
    session = here.session(len(mine), start.tensors)
    places = {label: place for place, label in enumerate(mine)}
    labels = np.array([places[int(label)] for label in maps.train_labels[rows]], np.int64)
    schedule = Schedule(len(rows), asked.batch, asked.epochs, asked.lr, asked.round)
    anchor = Anchor(manifest, session.state(), asked.proximal) if asked.proximal else None
    batches = [batch for epoch in range(1, asked.epochs + 1) for batch in schedule.rows(epoch)]
    for step, batch in enumerate(batches[: -(-len(batches) // slower)]):
        rate = schedule.rate(step)
        session.train_step(maps.train[rows[batch]], labels[batch], rate)
        if anchor is not None:
            anchor.pull(session, rate)
    ended = {name: tensor.copy() for name, tensor in session.state().items()}
    seen = set(maps.train_labels[rows].tolist())
    kept = [(row, place) for place, row in enumerate(mine) if row in seen or here.softmax == ALL]
    return with_rows_back(manifest, begin, ended, kept)


def accuracy_of(here: Scene, tensors: Any, classes: int) -> float:
    """Return the accuracy on all test pictures, of all classes."""
    session = here.session(classes, with_slots(here.bundle.manifest, tensors, classes))
    right = 0
    for start in range(0, len(here.maps.test_labels), 256):
        part = slice(start, start + 256)
        found = session.predict(here.maps.test[part]).argmax(axis=1)
        right += int((found == here.maps.test_labels[part]).sum())
    return right / len(here.maps.test_labels)


def own_accuracy(here: Scene, tensors: Any, classes: int, manifest_home: frozenset[str]) -> float:
    """Return the mean accuracy of boards with what they keep at home, on test pictures of the
    classes that each has, weighted as its own pictures are.
    """
    found = []
    for number, rows in enumerate(here.rows):
        board = Board(here.home / str(number), str(number), Path(), Path())
        kept = board.kept(PERSONAL, here.bundle.manifest.fit) if board.home.is_dir() else {}
        session = here.session(
            classes, with_slots(here.bundle.manifest, {**tensors, **kept}, classes)
        )
        random = np.random.default_rng(number)
        labels = random.choice(here.maps.train_labels[rows], 50)
        chosen = [random.choice(np.flatnonzero(here.maps.test_labels == one)) for one in labels]
        answers = session.predict(here.maps.test[chosen]).argmax(axis=1)
        found.append(float((answers == labels).mean()))
    return float(np.mean(found))
