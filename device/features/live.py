"""From pictures to feature maps, in micro-batches.

The frozen prefix sets the peak memory of a step, so it sees `micro_batch` pictures at a time, 1 by
default, and only its small feature maps are collected. Letters: n pictures in a micro-batch, H = W
the resolution, C x h x w the feature map of one picture, N rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.pictures.augment import augmented, random_stream, training_short_side
from mobiletl.device.sessions.session import Session

# Called with the row of a picture that cannot be decoded, and the reason; perhaps every epoch.
OnUnreadable = Callable[[int, str], None]


class FeatureSource(ABC):
    """Feature maps of one list of pictures; a row is a picture's position in that list."""

    @abstractmethod
    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        """Write the maps of the pictures `rows` to the first rows of `out` f32[N,C,h,w].

        Returns the rows really written, in order: pictures that cannot be decoded are left out.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what is open; the source cannot be used afterwards."""


@dataclass(frozen=True)
class Preparation:
    """How a frame becomes a tensor; with `augment_seed` a random crop, else the central one."""

    size: Input
    augment_seed: int | None = None

    def write(self, frame: Frame, row: int, epoch: int, out: Floats) -> None:
        """Decode `frame` into `out` f32[3,H,W]; raises UnreadablePicture."""
        if self.augment_seed is None:
            prepare(frame, self.size, out)
        else:
            stream = random_stream(self.augment_seed, epoch, row)
            augmented(frame.decode(training_short_side(self.size)), self.size, stream, out)


class LiveFeatures(FeatureSource):
    """Decodes the frames and runs the frozen prefix on every call."""

    def __init__(
        self,
        session: Session,
        frames: Callable[[int], Frame],
        preparation: Preparation,
        on_unreadable: OnUnreadable,
        micro_batch: int = 1,
    ) -> None:
        """Allocate one micro-batch; nothing is read yet. `frames` maps a row to its picture."""
        self._session = session
        self._frames = frames
        self._preparation = preparation
        self._on_unreadable = on_unreadable
        side = preparation.size.resolution
        self._images = np.empty((micro_batch, 3, side, side), np.float32)

    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        """Write the maps of the pictures `rows`, see FeatureSource."""
        written: list[int] = []
        waiting: list[int] = []
        for row in rows:
            try:
                image = self._images[len(waiting)]
                self._preparation.write(self._frames(row), row, epoch, image)
            except UnreadablePicture as error:
                self._on_unreadable(row, error.reason)
                continue
            waiting.append(row)
            if len(waiting) == len(self._images):
                self._run(waiting, written, out)
        self._run(waiting, written, out)
        return written

    def close(self) -> None:
        """Nothing is open; the session belongs to the caller."""

    def _run(self, waiting: list[int], written: list[int], out: Floats) -> None:
        """Move the pictures `waiting` in the micro-batch through the prefix to `written`."""
        if waiting:
            start, stop = len(written), len(written) + len(waiting)
            out[start:stop] = self._session.features(self._images[: len(waiting)])
            written += waiting
            waiting.clear()
