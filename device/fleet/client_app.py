"""A board as Flower sees it: a ClientApp around a round's training and evaluation.

It finds out from the environment which board it is (board.py), so it also runs in Flower's own
processes. What a reply has:

    arrays    the parameters, as the round's encoding writes them (coding.py)
    metrics   num-examples, and the figures of the run
    board     the board's name

In a round whose parameters are summed under masks the reply is what the protocol has (sums.py). A
board that sits out, or whose run has failed, replies with an error whose reason says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Callable, Mapping

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.errors import BadRound, MobileTLError, SitsOut
from mobiletl.device.fleet import sums
from mobiletl.device.fleet.asked import Asked, asked_of, personal_names, round_shapes
from mobiletl.device.fleet.board import LEFT, PERSONAL, Board, board_here
from mobiletl.device.fleet.coding import sent_bytes, upwards
from mobiletl.device.fleet.evaluating import evaluate_round
from mobiletl.device.fleet.training import train_round
from mobiletl.device.fleet.wire import read_down

# Codes of Flower's own errors end before.
FAILED, SITS_OUT = 100, 101
ARRAYS, METRICS, BOARD, CONFIG = "arrays", "metrics", "board", "config"
PICTURES = "num-examples"

logger = logging.getLogger(__name__)

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """Answer a round: train on this board's pictures."""
    if sums.is_part_of_sum(message.content):
        return _answer(message, lambda board: _part_of_sum(board, message, context))
    return _answer(message, lambda board: _train(_open_task(board, message.content)))


@app.evaluate()  # type: ignore[untyped-decorator]
def evaluate(message: Message, context: Context) -> Message:
    """Answer a round: score its parameters on this board's held-out pictures."""
    return _answer(message, lambda board: _evaluate(_task(board, message.content)))


@dataclass(frozen=True)
class _Task:
    """A message from the server, understood: `shared` f32 by name are the round's parameters."""

    board: Board
    manifest: Manifest
    asked: Asked
    shared: Tensors
    personal: frozenset[str]
    bytes_down: int
    """What the numbers of the round's parameters were on their way."""

    def begin(self) -> Tensors:
        """Return the round's parameters with what this board keeps for itself in their place."""
        fitting = {
            name: tensor
            for name, tensor in self.board.kept(PERSONAL, self.asked.fit).items()
            if name in self.personal and tensor.shape == self.shared[name].shape
        }
        return {**self.shared, **fitting}


def _answer(message: Message, work: Callable[[Board], RecordDict]) -> Message:
    board: Board | None = None
    try:
        board = board_here()
        return Message(work(board), reply_to=message)
    except MobileTLError as error:
        name = "a board" if board is None else board.name
        code = SITS_OUT if isinstance(error, SitsOut) else FAILED
        logger.warning("%s does not answer the round: %s", name, error)
        return Message(Error(code, f"{name}: {error}"), reply_to=message)


def _task(board: Board, content: RecordDict) -> _Task:
    manifest = read_manifest(board.bundle)
    if CONFIG not in content.config_records or ARRAYS not in content.array_records:
        raise BadRound("the server sends neither what to do nor parameters")
    asked = asked_of(dict(content.config_records[CONFIG]), manifest)
    shapes = round_shapes(manifest, len(asked.class_names))
    arrays = read_down(contents_of(content.array_records[ARRAYS]), shapes)
    shared = {name: array.astype(np.float32) for name, array in arrays.items()}
    personal = personal_names(manifest, asked.personal)
    return _Task(board, manifest, asked, shared, personal, sent_bytes(arrays))


def _open_task(board: Board, content: RecordDict) -> _Task:
    """Return the task of a round in which the server sees this board's own parameters."""
    task = _task(board, content)
    if task.asked.secagg:
        raise BadRound("the server asks for a sum, and for this board's own parameters")
    if board.only_sums:
        raise SitsOut("it takes part in sums alone, and this fleet has none (--secagg)")
    return task


def _part_of_sum(board: Board, message: Message, context: Context) -> RecordDict:
    def train() -> RecordDict:
        task = _task(board, message.content)
        if not task.asked.secagg:
            raise BadRound("the server asks for this board's own parameters, and for a sum")
        content = _train(task)
        ended = {name: array.numpy() for name, array in content.array_records[ARRAYS].items()}
        told = {**content.metric_records[METRICS], "board": board.name}
        told["bytes-up"] = sums.MASKED_BYTES * sum(tensor.size for tensor in ended.values())
        return sums.fit_record(task.shared, ended, told.pop(PICTURES), told)

    return sums.take_part(message, context, train)


def _train(task: _Task) -> RecordDict:
    board, asked, personal = task.board, task.asked, task.personal
    trained = train_round(board, asked, task.begin())
    ended = {name: t for name, t in trained.tensors.items() if name not in personal}
    sent, left = upwards(task.shared, ended, board.kept(LEFT, asked.fit), asked.encoding)
    board.keep(PERSONAL, {name: trained.tensors[name] for name in sorted(personal)}, asked.fit)
    board.keep(LEFT, left, asked.fit)
    metrics = {
        PICTURES: trained.pictures,
        **trained.metrics,
        "bytes-up": sent_bytes(sent),
        "bytes-down": task.bytes_down,
    }
    return RecordDict(
        {
            ARRAYS: record_of(sent),
            METRICS: MetricRecord(metrics),
            BOARD: ConfigRecord({"name": board.name}),
        }
    )


def _evaluate(task: _Task) -> RecordDict:
    score = evaluate_round(task.board, task.asked, task.begin())
    metrics = {PICTURES: sum(score.class_seen), "loss": score.loss, "accuracy": score.accuracy}
    return RecordDict(
        {METRICS: MetricRecord(metrics), BOARD: ConfigRecord({"name": task.board.name})}
    )


def record_of(arrays: Mapping[str, Any]) -> ArrayRecord:
    """Return arrays by name as Flower sends them."""
    return ArrayRecord({name: Array(np.ascontiguousarray(a)) for name, a in arrays.items()})


def contents_of(record: ArrayRecord) -> dict[str, bytes]:
    """Return the contents of .npy files, unread, by name; raises BadRound for any other format."""
    if any(array.stype != "numpy.ndarray" for array in record.values()):
        raise BadRound("parameters come in a format that is not read here, expected numpy.ndarray")
    return {name: array.data for name, array in record.items()}
