"""Who hears of a run: every listener is told the same events, in order, by one voice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Sequence

from mobiletl.device.run.events import Event


class Listener(ABC):
    """Hears a run. To add one: a class with `hear`, handed to the run.

    `hear` is called in the training thread, between two steps: what takes long holds the training
    up. What it raises ends the run, which keeps its last saved state.
    """

    @abstractmethod
    def hear(self, event: Event) -> None:
        """Take note of `event`; what a listener does not care for it ignores."""


class Listeners(Listener):
    """Several listeners as one."""

    def __init__(self, members: Sequence[Listener]) -> None:
        """`members` are told in this order."""
        self._members = tuple(members)

    def hear(self, event: Event) -> None:
        """Tell every member."""
        for member in self._members:
            member.hear(event)
