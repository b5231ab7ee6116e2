"""A strategy of Flower's behind a check: what boards send is decoded, judged, and then averaged.

Flower's strategies stop a whole run where one reply has other names, and average NaN into
everything. Here a reply that does not fit is refused alone, and the log names its board.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.asked import personal_names
from mobiletl.device.fleet.client_app import (
    ARRAYS,
    BOARD,
    CONFIG,
    METRICS,
    PICTURES,
    SITS_OUT,
    contents_of,
    record_of,
)
from mobiletl.device.fleet.coding import downwards
from mobiletl.device.printable import printable
from mobiletl.fleet.checking import Refused, Update, decoded, figures_of, judged, judged_sum
from mobiletl.fleet.plan import Plan

# A round counts if so many of the boards that were asked, and have not sat out, have answered.
LEAST_SHARE = 0.5

logger = logging.getLogger(__name__)


@dataclass
class RoundRecord:
    """What happened in a round, as its line says it."""

    number: int
    began: float = field(default_factory=time.time)
    asked: int = 0
    taken: list[Update] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    """What the boards that sit out have said."""
    lost: list[str] = field(default_factory=list)
    """What Flower says of boards that have not answered."""
    dropped: str = ""
    """Why the round changes nothing, if it does not."""
    figures: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the line; a node's number has more digits than JSON's readers take for one."""
        return {
            "round": self.number,
            "time": round(time.time(), 3),
            "seconds": round(time.time() - self.began, 3),
            "asked": self.asked,
            "boards": [
                {**one.metrics, "board": one.board, "node": str(one.node), "pictures": one.pictures}
                for one in self.taken
            ],
            "refused": [
                {"board": one.board, "node": str(one.node), "why": one.why} for one in self.refused
            ],
            "sat_out": self.out,
            "lost": self.lost,
            "dropped": self.dropped,
            "figures": self.figures,
            "scores": self.scores,
        }


class Guarded(Strategy):  # type: ignore[misc]
    """Hands `inner` what fits, and keeps what it must not average."""

    def __init__(
        self,
        inner: Any,
        plan: Plan,
        manifest: Manifest,
        done: int,
        averages_statistics: bool = False,
    ) -> None:
        """`done` rounds were there before: Flower counts from 1 again after a resume."""
        self._inner = inner
        self._plan = plan
        self._manifest = manifest
        self._done = done
        self._averaged = frozenset(
            entry.name
            for entry in manifest.state
            if averages_statistics and entry.role == "statistic"
        )
        self._home = personal_names(manifest, plan.personal)
        self._began: Tensors = {}
        self._usual: float | None = None
        self._replies: dict[int, Message] = {}
        self.record = RoundRecord(0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Strategy; boards get the round's parameters as its encoding writes them."""
        self.record = RoundRecord(self._done + server_round)
        self._began = {name: array.numpy() for name, array in arrays.items()}
        messages = self._configured(self._inner.configure_train, server_round, config, grid)
        self.record.asked = len(messages)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Strategy."""
        if not self._plan.evaluate:
            return []
        self._began = {name: array.numpy() for name, array in arrays.items()}
        return self._configured(self._inner.configure_evaluate, server_round, config, grid)

    def _configured(
        self, configure: Callable[..., Any], server_round: int, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        # The strategy remembers what it is given, in full and without what stays on boards.
        shared = {n: t for n, t in self._began.items() if n not in self._home | self._averaged}
        number = self._done + server_round
        messages = list(configure(number, record_of(shared), config, grid))
        asked = self._plan.asked(self._manifest, number)
        sent = record_of(downwards(self._began, self._plan.encoding))
        content = RecordDict({ARRAYS: sent, CONFIG: ConfigRecord(asked.document())})
        for message in messages:
            message.content = content
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See Strategy; without a reply that fits the round changes nothing."""
        updates = self._sorted(replies, self._update)
        judge = judged_sum if self._plan.secagg else judged
        taken, refused, self._usual = judge(updates, self._began, self._usual)
        self.record.taken = taken
        self.record.refused += refused
        for one in self.record.refused:
            logger.warning(
                "round %d: %s (node %d) is refused: %s",
                self.record.number,
                one.board,
                one.node,
                one.why,
            )
        expected = self.record.asked - len(self.record.out)
        if not taken or len(taken) < LEAST_SHARE * expected:
            # What one board of many has learned is not what all have: the round is lost, not they.
            self.record.dropped = f"{len(taken)} of {expected} boards have sent what fits"
            logger.warning("round %d: %s; dropped", self.record.number, self.record.dropped)
            return None, None
        arrays, metrics = self._inner.aggregate_train(self.record.number, self._messages(taken))
        if arrays is None:
            return None, None
        merged = {
            **self._began,
            **{name: array.numpy().astype(np.float32) for name, array in arrays.items()},
            **_weighted(taken, self._averaged),
        }
        if not all(np.isfinite(tensor).all() for tensor in merged.values()):
            self.record.dropped = "the result is not finite"
            logger.warning("round %d: the result is not finite; dropped", self.record.number)
            return None, None
        self.record.figures = {name: float(value) for name, value in dict(metrics or {}).items()}
        return record_of(merged), metrics

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """See Strategy."""
        found = self._sorted(replies, self._score)
        if not found:
            return None
        metrics = self._inner.aggregate_evaluate(self.record.number, self._messages(found))
        self.record.scores = {name: float(value) for name, value in dict(metrics or {}).items()}
        return metrics

    def summary(self) -> None:
        """See Strategy."""
        self._inner.summary()

    def _sorted(
        self, replies: Iterable[Message], read: Callable[[Message, str], Update]
    ) -> list[Update]:
        """Return what can be read of the replies; the record notes the others."""
        found: list[Update] = []
        self._replies = {}
        for reply in replies:
            node = int(reply.metadata.src_node_id)
            if reply.has_error():
                self._note(node, reply.error.code, str(reply.error.reason))
                continue
            name = _name_of(reply)
            self._replies[node] = reply
            try:
                found.append(read(reply, name))
            except BadRound as error:
                self.record.refused.append(Refused(node, name, str(error)))
        return found

    def _note(self, node: int, code: int, reason: str) -> None:
        said = printable(reason[:500])
        if code == SITS_OUT:
            self.record.out.append(said)
            logger.info("round %d: %s", self.record.number, said)
        else:
            # For a node that is gone the SuperLink answers itself, without the node's number.
            who = "a board" if node == SUPERLINK_NODE_ID else f"node {node}"
            self.record.lost.append(f"{who}: {said}")
            logger.warning("round %d: %s: %s", self.record.number, who, said)

    def _update(self, reply: Message, name: str) -> Update:
        arrays, metrics = reply.content.array_records, reply.content.metric_records
        if ARRAYS not in arrays or METRICS not in metrics:
            raise BadRound("it sends no parameters, or no figures")
        asked = self._plan.asked(self._manifest, self.record.number)
        pictures, figures = figures_of(dict(metrics[METRICS]))
        tensors = decoded(contents_of(arrays[ARRAYS]), self._began, asked, self._manifest)
        return Update(int(reply.metadata.src_node_id), name, tensors, pictures, figures)

    def _score(self, reply: Message, name: str) -> Update:
        metrics = reply.content.metric_records
        if METRICS not in metrics:
            raise BadRound("it sends no figures")
        pictures, figures = figures_of(dict(metrics[METRICS]))
        return Update(int(reply.metadata.src_node_id), name, {}, pictures, figures)

    def _messages(self, updates: list[Update]) -> list[Message]:
        """Return the replies as `inner` takes them: equal names, in full, nothing else."""
        names = sorted(set.intersection(*(set(one.metrics) for one in updates)))
        messages = []
        for one in updates:
            shared = {n: Array(t) for n, t in one.tensors.items() if n not in self._averaged}
            figures = {PICTURES: one.pictures, **{name: one.metrics[name] for name in names}}
            message = self._replies[one.node]
            message.content = RecordDict(
                {ARRAYS: ArrayRecord(shared), METRICS: MetricRecord(figures)}
            )
            messages.append(message)
        return messages


def _name_of(reply: Message) -> str:
    record = reply.content.config_records.get(BOARD)
    name = None if record is None else record.get("name")
    return printable(name[:60]) if isinstance(name, str) else "a board"


def _weighted(updates: list[Update], names: Iterable[str]) -> Tensors:
    total = sum(one.pictures for one in updates)
    return {
        name: sum(
            (one.tensors[name] * np.float32(one.pictures / total) for one in updates),
            np.zeros((), np.float32),
        )
        for name in names
        if name in updates[0].tensors
    }
