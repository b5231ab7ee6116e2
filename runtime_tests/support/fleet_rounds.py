"""What tests of a fleet's rounds share: a small state, a plan, and a Grid that only answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.fleet.guarded import Guarded
from mobiletl.fleet.plan import Plan
from mobiletl.fleet.strategies import row_of, strategy_of
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT, write_tiny_bundle

CLASSES = ("ant", "bee")
SHAPES = {WEIGHT: (2, 6), BIAS: (2,), MEAN: (6,)}
BOARDS = 5
_UNASKED = "a strategy asks for nothing but replies"


def tensors(value: float) -> dict[str, Any]:
    """What lasts of the tiny bundle's state, all of one value."""
    return {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}


def tiny_plan(folder: Path, secagg: bool = False) -> Plan:
    """A plan of one round for five boards, with a bundle in `folder`."""
    return Plan(
        bundle=write_tiny_bundle(folder / "bundle", graphs=False),
        class_names=CLASSES,
        rounds=1,
        boards=BOARDS,
        share=1.0,
        round_seconds=10.0,
        strategy="fedavg",
        epochs=1,
        seconds=0.0,
        batch=8,
        lr=0.1,
        encoding="float32",
        personal="nothing",
        softmax="all",
        proximal=0.1,
        server_lr=0.01,
        broken=1,
        evaluate=False,
        secagg=secagg,
    )


def guarded_strategy(plan: Plan, done: int = 0) -> Guarded:
    """The plan's strategy of Flower's, behind the check."""
    manifest = read_manifest(plan.bundle)
    row = row_of(plan.strategy)
    return Guarded(strategy_of(plan), plan, manifest, done, row.averages_statistics)


class AnsweringGrid(Grid):
    """Boards in this process, by their nodes; whatever else a strategy asks for fails the test."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = list(nodes)

    @abstractmethod
    def answer(self, message: Message) -> Message:
        """What the board of `message` replies."""

    def get_node_ids(self) -> Iterable[int]:
        return self._nodes

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return [self.answer(message) for message in messages]

    def set_run(self, run_id: int) -> None:
        raise AssertionError(_UNASKED)

    @property
    def run(self) -> Any:
        raise AssertionError(_UNASKED)

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise AssertionError(_UNASKED)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise AssertionError(_UNASKED)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise AssertionError(_UNASKED)
