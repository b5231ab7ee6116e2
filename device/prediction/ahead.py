"""Frames are read and prepared by a thread, while the network looks at the one before if it may.

Reading waits for a camera or decodes a file, and preparing resizes; both leave the interpreter's
lock alone for nearly all of their time. Where cores are left over, two tensors go round: one is
being looked at, the other one is filled. Where the network has every core, a frame that is prepared
meanwhile takes one of its threads' place, and the others wait for that thread at each layer. Then
there is one tensor, and a frame is read when it is asked for: that costs less processor time, and
the answer is about a newer frame. There is never more than one frame ahead, so that memory does
not grow where a camera is faster.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, Union

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.cameras.base import CameraEnded

# A camera that is being waited for cannot be interrupted; its thread dies with the process then.
CLOSE_WITHIN_S = 2.0


@dataclass(frozen=True)
class Prepared:
    """A frame, ready for the network."""

    name: str
    time_s: float
    """When the camera gave it, in seconds since 1970."""
    image: Floats
    """f32[1,3,H,W]; it is overwritten after the next call of `FramesAhead.next`."""


class Source(Protocol):
    """What frames come from: a CameraStream."""

    name: str

    def read(self) -> Frame:
        """Return the next frame; raises CameraEnded after the last."""


# What ends the frames travels the same way as they do, so that none before it is lost.
Arrived = Union[Prepared, Exception]


class FramesAhead(Closing):
    """A context manager around an open stream, which stays the caller's to close."""

    def __init__(self, stream: Source, size: Input, ahead: bool = True) -> None:
        """Begin to read; without `ahead` no frame is read while another one is looked at."""
        side = size.resolution
        self._stream, self._size = stream, size
        self._free: SimpleQueue[Floats | None] = SimpleQueue()
        self._arrived: SimpleQueue[Arrived] = SimpleQueue()
        for _ in range(2 if ahead else 1):
            self._free.put(np.empty((1, 3, side, side), np.float32))
        self._current: Prepared | None = None
        self._closed = False
        self.unreadable = 0
        """Frames that could not be prepared, and were left out."""
        # A daemon: a camera that never answers must not keep the process.
        self._thread = threading.Thread(target=self._fill, name="frames", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Prepared | None:
        """Return the next frame, None if there is none within `timeout_s`.

        Raises CameraEnded after the last, and what reading raises.
        """
        if self._current is not None:
            self._free.put(self._current.image)
            self._current = None
        try:
            arrived = self._arrived.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(arrived, Exception):
            raise arrived
        self._current = arrived
        return arrived

    def close(self) -> None:
        """End the thread; returns after CLOSE_WITHIN_S if the camera does not let it end."""
        self._closed = True
        self._free.put(None)
        self._thread.join(CLOSE_WITHIN_S)

    @property
    def ended(self) -> bool:
        """Whether nothing reads the stream any more, so that it can be closed."""
        return not self._thread.is_alive()

    def _fill(self) -> None:
        try:
            while True:
                image = self._free.get()
                if image is None or self._closed:
                    return
                self._arrived.put(self._read(image))
        except Exception as error:  # noqa: BLE001 - it is raised again where frames are waited for
            self._arrived.put(error)

    def _read(self, image: Floats) -> Prepared:
        while True:
            if self._closed:
                raise CameraEnded(f"{self._stream.name} is closed")
            frame = self._stream.read()
            try:
                prepare(frame, self._size, image[0])
            except UnreadablePicture:
                self.unreadable += 1
                continue
            taken = time.time() if frame.time_s is None else frame.time_s
            return Prepared(frame.name, taken, image)
