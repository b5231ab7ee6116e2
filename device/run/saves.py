"""When the states of a run are saved: as often as a budget of bytes an hour allows.

What a save has written, and what the file system writes to make it durable, is paid off over time:
the next one waits until the budget has grown by as much. What a run cannot do without is saved
whatever the budget says, and counts: its beginning, its end, a stop, a fall back to the best state.
A best state that is not saved at once is held (held.py), and kept before the next `last` state is.

What is checked of a state, and when, does not depend on the budget, so neither does the result.
"""

from __future__ import annotations

import time
from typing import Callable

from mobiletl.device.bundle.state_file import BEST, LAST
from mobiletl.device.bundle.wear import Wear, wear
from mobiletl.device.run.checkpoints import Checkpoints, Position
from mobiletl.device.run.events import Saved
from mobiletl.device.run.held import HeldState
from mobiletl.device.run.listener import Listener
from mobiletl.device.sessions.session import Session

# What ext4 writes for one fsync besides the data: its journal and its inodes (docs/reliability.md).
SYNC_BYTES = 26_000
HOUR_S = 3600.0


class Saves:
    """Saves the states of a run; `clock` counts seconds."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        session: Session,
        listener: Listener,
        budget: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`budget` is in bytes an hour; None saves whenever there is something to save."""
        self._checkpoints = checkpoints
        self._session = session
        self._listener = listener
        self._budget = budget
        self._clock = clock
        self._next = clock()
        self._held = HeldState(checkpoints.folder.best)

    def due(self) -> bool:
        """Whether the budget allows a save now."""
        return self._budget is None or self._clock() >= self._next

    def last(self, position: Position, must: bool) -> None:
        """Save the place to resume from, if it `must` be; raises Diverged, NoSpace."""
        tensors = self._session.state()
        if not must:
            self._checkpoints.check(tensors, position)
            return
        self.settle()
        before = wear()
        self._checkpoints.save(LAST, tensors, position)
        self._saved(LAST, position.epoch, position.step, before)

    def best(self, position: Position, must: bool) -> None:
        """Save the best state, or hold it until it `must` be saved; raises Diverged, NoSpace."""
        tensors = self._session.state()
        if not must:
            self._checkpoints.check(tensors, position)
            self._held.hold(tensors, self._checkpoints.info(BEST, position))
            return
        before = wear()
        self._checkpoints.save(BEST, tensors, position)
        self._held.drop()
        self._saved(BEST, position.epoch, position.step, before)

    def settle(self) -> None:
        """Save the best state that is held, if there is one; raises NoSpace."""
        info = self._held.info
        if info is not None:
            before = wear()
            self._held.keep()
            self._saved(BEST, info.epoch, info.step, before)

    def close(self) -> None:
        """Let go of what is held, which is not saved."""
        self._held.drop()

    def _saved(self, kind: str, epoch: int, step: int, before: Wear) -> None:
        path = self._checkpoints.folder.state(kind)
        self._listener.hear(Saved(kind, str(path), epoch, step))
        if self._budget is not None:
            spent = wear().since(before)
            cost = spent.bytes + SYNC_BYTES * spent.fsyncs
            self._next = max(self._next, self._clock()) + HOUR_S * cost / self._budget
