"""How much more memory than its live tensors a graph takes of stock onnxruntime: the holes.

Its arena gives a tensor the smallest free piece that is large enough, at a multiple of 256 bytes,
leaves the rest of the piece free, and joins pieces that are free side by side. So a tensor may find
no room although enough is free in pieces. Where it lies follows from the sizes and the order alone,
so the arena is gone through here, as device/sessions/arena.py sets it up (BFCArena in
onnxruntime/core/framework/bfc_arena.cc, 1.31.1). Letters: N pictures in a batch, K classes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from math import ceil

import onnx

from mobiletl.device.sessions.arena import STEP_BYTES, region_bytes
from mobiletl.export.memory.plan import GraphPlan, Turn, tensor_bytes, turns

# Where the share of holes is read off; it moves little in between.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
CLASSES = 10
_SHARE_STEPS = 1000


def holes(model: onnx.ModelProto, plan: GraphPlan) -> tuple[tuple[int, float], ...]:
    """(N, holes as a share of the live tensors at their peak) for each of BATCHES."""
    sizes = tensor_bytes(model)
    order = tuple(turns(model.graph, sizes))
    found = []
    for batch in BATCHES:
        alive = plan.peak(batch, CLASSES)
        bytes_of = {name: size.at(batch, CLASSES) for name, size in sizes.items()}
        share = _reach(order, bytes_of, region_bytes(alive)) / alive - 1 if alive else 0.0
        found.append((batch, ceil(max(share, 0.0) * _SHARE_STEPS) / _SHARE_STEPS))
    return tuple(found)


def _reach(order: Iterable[Turn], bytes_of: dict[str, int], region: int) -> int:
    """How far into a region of so many bytes tensors have been."""
    arena, places = _Arena(region), {}
    for turn in order:
        for name in turn.allocated:
            places[name] = arena.take(bytes_of[name])
        for place in [arena.take(bytes_of[name]) for name in turn.scratch]:
            arena.give(place)
        for name in turn.freed:
            arena.give(places.pop(name))
    return arena.reached


class _Arena:
    """One region of memory. It has no end: a graph that does not fit one has others."""

    def __init__(self, size: int) -> None:
        self.reached = 0
        self._taken: dict[int, int] = {}
        self._end = size
        # Free pieces by (bytes, place), and their bytes by where they begin and places by end.
        self._free: list[tuple[int, int]] = []
        self._from: dict[int, int] = {}
        self._to: dict[int, int] = {}
        self._add(0, size)

    def take(self, size: int) -> int:
        """The place of a piece of `size` bytes."""
        size = max(1, -(-size // STEP_BYTES)) * STEP_BYTES
        at = bisect_left(self._free, (size, 0))
        if at == len(self._free):
            self._add(self._end, size)
            self._end += size
            at = bisect_left(self._free, (size, 0))
        found, place = self._free[at]
        self._remove(place)
        if found > size:
            self._add(place + size, found - size)
        self._taken[place] = size
        self.reached = max(self.reached, place + size)
        return place

    def give(self, place: int) -> None:
        """Free the piece at `place`, and join it with what is free beside it."""
        size = self._taken.pop(place)
        after = self._from.get(place + size)
        if after is not None:
            self._remove(place + size)
            size += after
        before = self._to.get(place)
        if before is not None:
            size += self._from[before]
            self._remove(before)
            place = before
        self._add(place, size)

    def _add(self, place: int, size: int) -> None:
        self._from[place], self._to[place + size] = size, place
        insort(self._free, (size, place))

    def _remove(self, place: int) -> None:
        size = self._from.pop(place)
        del self._to[place + size]
        del self._free[bisect_left(self._free, (size, place))]
