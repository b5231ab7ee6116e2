"""Which frames are kept: those that are sharp, and new to their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.capturing.looks import SMALL_SIDE, Look, difference

# Pictures that are compared at once, and for how many more there is room when there is none left.
BLOCK, MORE = 64, 256
# Why a frame is not kept.
BLACK, BLURRED, SAME = "black", "not sharp", "like a kept one"


@dataclass(frozen=True)
class Rules:
    """The least that a frame must have; docs/capture.md has the measurements behind both."""

    sharpness: float = 0.32
    """See looks.Look; 0 lets all frames through."""
    difference: float = 0.45
    """From each kept picture of its class, see looks.difference; 0 lets all frames through."""


@dataclass(frozen=True)
class Judgement:
    """Whether a frame is kept and, as numbers, why."""

    sharpness: float
    """See looks.Look."""
    difference: float | None
    """From the nearest kept picture of the class; None while there is none."""
    sharp: bool
    new: bool
    black: bool = False

    @property
    def kept(self) -> bool:
        """Whether it has what the rules ask for."""
        return self.sharp and self.new and not self.black

    @property
    def reason(self) -> str:
        """In a few words, why it is not kept; empty if it is."""
        if self.kept:
            return ""
        if self.black:
            return BLACK
        return SAME if self.sharp else BLURRED


class Selection:
    """What is kept of one class. A picture takes 1.2 kB: of half precision, three digits are right
    of a difference that is compared with one of two.
    """

    def __init__(self, kept: Iterable[Floats] = ()) -> None:
        """Begin with the small pictures (looks.small_of) of what is there already."""
        self._kept = np.empty((BLOCK, SMALL_SIDE * SMALL_SIDE), np.float16)
        self._count = 0
        for small in kept:
            self.add(small)

    def judge(self, look: Look, rules: Rules) -> Judgement:
        """Judge a frame; `add` it if it is kept."""
        nearest = self._nearest(look.small)
        new = nearest is None or nearest >= rules.difference
        sharp = look.sharpness >= rules.sharpness
        return Judgement(look.sharpness, nearest, sharp, new, look.black)

    def _nearest(self, small: Floats) -> float | None:
        """Return the least difference; a block at a time, so that a large class takes no more."""
        small = small.astype(np.float16).astype(np.float32)  # as the kept ones are
        blocks = range(0, self._count, BLOCK)
        kept = (self._kept[row : min(row + BLOCK, self._count)] for row in blocks)
        found = (float(difference(small, some.astype(np.float32)).min()) for some in kept)
        return min(found, default=None)

    def add(self, small: Floats) -> None:
        """Hold later frames against this one, too."""
        if self._count == len(self._kept):
            self._kept = np.concatenate([self._kept, np.empty_like(self._kept[:MORE])])
        self._kept[self._count] = small
        self._count += 1
