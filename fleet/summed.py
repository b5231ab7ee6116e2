"""The server's part in a sum (device/fleet/sums.py): what it averages is one and the same for all.

Flower's protocol is one for its older kind of apps. Here it stands behind the interface by which
its newer strategies send and receive: they send parameters to boards, and get back for each board
that has answered the weighted mean of all, instead of that board's own.

Flower 1.22 gives a round up where a board is gone before it has sent the parts of its secrets.
Nothing is trained by then, so the round is begun anew without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common import MessageType, parameters_to_ndarrays
from flwr.common.typing import FitIns, Parameters
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation import secaggplus_workflow as flower
from flwr.serverapp import Grid

from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.asked import LEAST_IN_SUM
from mobiletl.device.fleet.client_app import (
    ARRAYS,
    BOARD,
    CONFIG,
    METRICS,
    PICTURES,
    record_of,
)
from mobiletl.device.fleet.sums import (
    CLIPPED_TO,
    MODULUS,
    MOST_WEIGHT,
    mean_of,
    use_strong_masks,
)
from mobiletl.device.printable import one_line
from mobiletl.fleet.sum_parts import Checked

# So many of the parts of a board's secret restore it: more than half, or boards refuse the round.
ENOUGH_PARTS = 0.7
# With more neighbours than these a board shares its secrets with some of the others only.
MOST_PARTS = 21

logger = logging.getLogger(__name__)

use_strong_masks(flower)


@dataclass
class _Strategy:
    """What Flower's protocol asks for boards, and tells the sum."""

    boards: list[int]
    results: list[Any] = field(default_factory=list)

    def configure_fit(self, *_: Any) -> list[Any]:
        # The contents are put in their place by `_Rounds`.
        return [(_Proxy(board), FitIns(Parameters([], ""), {})) for board in self.boards]

    def aggregate_fit(self, _: int, results: list[Any], failures: list[Any]) -> Any:
        self.results = results
        return None, {}


@dataclass(frozen=True)
class _Proxy:
    node_id: int


class _Rounds(flower.SecAggPlusWorkflow):  # type: ignore[misc]
    def results_of(
        self, grid: Checked, contents: Mapping[int, RecordDict], number: int
    ) -> list[Any]:
        """Return (proxy, FitRes) of each board in the sum; the parameters of each are the mean.

        Raises BadRound where there is no sum.
        """
        boards = list(contents)
        while len(boards) >= LEAST_IN_SUM:
            context = _context(_Strategy(boards), number)
            state = flower.WorkflowState()
            going_on = self.setup_stage(grid, context, state)
            if len(state.active_node_ids) == len(boards):
                going_on = going_on and self.share_keys_stage(grid, context, state)
            if len(state.active_node_ids) < len(boards):
                boards = [board for board in boards if board in state.active_node_ids]
                continue
            state.nid_to_fitins = {board: contents[board] for board in boards}
            if going_on and self.collect_masked_vectors_stage(grid, context, state):
                self._unmask(grid, context, state)
            found: list[Any] = context.strategy.results
            if found:
                return found
            break
        raise BadRound("too few boards have answered for a sum")

    def _unmask(self, grid: Checked, context: LegacyContext, state: Any) -> None:
        try:
            self.unmask_stage(grid, context, state)
        # Parts of secrets that do not fit together; no board can be told from the others.
        except Exception as error:
            raise BadRound(f"the masks do not come off: {one_line(error)}") from error


def _context(strategy: _Strategy, number: int) -> LegacyContext:
    plain = Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(plain, strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: number})
    context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
    return context


class Summed:
    """Hands a strategy the mean of all boards as the answer of each; the rest is `grid`'s."""

    def __init__(self, grid: Grid, home: frozenset[str]) -> None:
        """Entries of `home` stay on the boards."""
        self._grid = grid
        self._home = home

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid; `timeout` is for each of the protocol's four steps."""
        asked = list(messages)
        if not asked or asked[0].metadata.message_type != MessageType.TRAIN:
            return list(self._grid.send_and_receive(asked, timeout=timeout))
        return self._sum(asked, timeout)

    def _sum(self, asked: list[Message], timeout: float | None) -> list[Message]:
        by_board = {message.metadata.dst_node_id: message for message in asked}
        # Each board's own record: the protocol adds a part for that board alone.
        contents = {b: RecordDict(dict(message.content)) for b, message in by_board.items()}
        first = asked[0].content
        began = {name: array.numpy() for name, array in first.array_records[ARRAYS].items()}
        names = sorted(began.keys() - self._home)
        heard = Checked(self._grid, [began[name].shape for name in names])
        protocol = _Rounds(
            num_shares=1.0 if len(asked) <= MOST_PARTS else MOST_PARTS,
            reconstruction_threshold=ENOUGH_PARTS,
            max_weight=float(MOST_WEIGHT),
            clipping_range=CLIPPED_TO,
            quantization_range=_steps(len(asked)),
            modulus_range=MODULUS,
            timeout=timeout,
        )
        number = int(first.config_records[CONFIG]["round"])
        try:
            results = protocol.results_of(heard, contents, number)
        except BadRound as error:
            logger.warning("round %d: %s", number, error)
            return heard.errors
        replies = list(heard.errors)
        changes = parameters_to_ndarrays(results[0][1].parameters)
        mean = mean_of(began, changes, names)
        for proxy, found in results:
            told = dict(found.metrics)
            content = {
                ARRAYS: record_of(mean),
                BOARD: ConfigRecord({"name": str(told.pop("board", ""))}),
                METRICS: MetricRecord({PICTURES: found.num_examples, **told}),
            }
            replies.append(Message(RecordDict(content), reply_to=by_board[proxy.node_id]))
        return replies

    def __getattr__(self, name: str) -> Any:
        """Return what Flower's strategies ask a Grid for beside that: the grid's own."""
        return getattr(self._grid, name)


def _steps(boards: int) -> int:
    """Return into how many steps a number is divided: a sum of `boards` stays in 32 bits."""
    return MODULUS >> boards.bit_length()
