"""Frames and what the network says of them, in the order in which the camera gave them.

A network on two threads is less than twice as fast as on one: at each layer the quicker thread
waits, and whatever else wants a core makes both wait. Two frames at once, each on half of the
threads, leave nobody waiting, and one is read and prepared while the network looks at the other.
An answer then takes about twice as long as with every thread at one frame, and more of them come.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import Union

import numpy as np

from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.prediction.ahead import CLOSE_WITHIN_S, FramesAhead, Source
from mobiletl.device.prediction.predictor import Predictor, Verdict

AT_ONCE = 2


@dataclass(frozen=True)
class Looked:
    """One frame and its verdict."""

    time_s: float
    """When the camera gave it, in seconds since 1970."""
    verdict: Verdict
    waited_s: float
    """How much of the time it took was reading and preparing; of two at once, half of that."""
    network_s: float
    """How much of it was the network, likewise."""


class Looks(Closing):
    """A context manager around an open stream, which stays the caller's to close."""

    @property
    @abstractmethod
    def unreadable(self) -> int:
        """Frames that could not be prepared, and were left out."""

    @abstractmethod
    def next(self, timeout_s: float) -> Looked | None:
        """Return the next frame's verdict, None if there is none within `timeout_s`.

        Raises CameraEnded after the last, and what reading raises.
        """


class OneAtATime(Looks):
    """The calling thread runs the network, with all of its threads."""

    def __init__(self, frames: FramesAhead, predictor: Predictor) -> None:
        """Take over `frames`."""
        self._frames, self._predictor = frames, predictor
        self._waited_s = 0.0

    @property
    def unreadable(self) -> int:
        """See Looks."""
        return self._frames.unreadable

    def next(self, timeout_s: float) -> Looked | None:
        """See Looks."""
        asked = time.monotonic()
        frame = self._frames.next(timeout_s)
        given = time.monotonic()
        self._waited_s += given - asked
        if frame is None:
            return None
        verdict = self._predictor.look(frame.image)
        waited_s, self._waited_s = self._waited_s, 0.0
        return Looked(frame.time_s, verdict, waited_s, time.monotonic() - given)

    def close(self) -> None:
        """See FramesAhead."""
        self._frames.close()


# What arrives under a frame's number; None for one that could not be prepared.
_Arrived = Union[Looked, Exception, None]


class TwoAtOnce(Looks):
    """Two threads each read a frame, prepare it and run the network, in turns at the camera.

    There are never more than two frames that were read and not asked for, so that memory does not
    grow where a camera is faster.
    """

    def __init__(self, stream: Source, predictor: Predictor) -> None:
        """Begin to read. `predictor` has `at_once` of two or more, and has looked once before."""
        self._stream, self._predictor = stream, predictor
        self._reading = threading.Lock()
        self._room = threading.Semaphore(AT_ONCE)
        self._arrived: dict[int, _Arrived] = {}
        self._arrival = threading.Condition()
        self._read = self._next = self._unreadable = 0
        self._over = False
        # Daemons: a camera that never answers must not keep the process.
        self._threads = [
            threading.Thread(target=self._work, name="frames", daemon=True) for _ in range(AT_ONCE)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unreadable(self) -> int:
        """See Looks."""
        return self._unreadable

    def next(self, timeout_s: float) -> Looked | None:
        """See Looks."""
        until = time.monotonic() + timeout_s
        while True:
            with self._arrival:
                if not self._arrival.wait_for(
                    lambda: self._next in self._arrived, until - time.monotonic()
                ):
                    return None
                arrived = self._arrived[self._next]
                if isinstance(arrived, Exception):
                    raise arrived
                del self._arrived[self._next]
                self._next += 1
            self._room.release()
            if arrived is not None:
                return arrived
            self._unreadable += 1

    def close(self) -> None:
        """End the threads; returns after CLOSE_WITHIN_S if the camera does not let them end."""
        self._over = True
        until = time.monotonic() + CLOSE_WITHIN_S
        for _ in self._threads:
            self._room.release()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    @property
    def ended(self) -> bool:
        """Whether nothing reads the stream any more, so that it can be closed."""
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        side = self._predictor.input.resolution
        image = np.empty((1, 3, side, side), np.float32)
        while True:
            self._room.acquire()
            began = time.monotonic()
            with self._reading:
                if self._over:
                    return
                number, self._read = self._read, self._read + 1
                try:
                    frame = self._stream.read()
                except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                    self._over = True
                    self._arrive(number, error)
                    return
            try:
                prepare(frame, self._predictor.input, image[0])
                prepared = time.monotonic()
                verdict = self._predictor.look(image)
                ended = time.monotonic()
            except UnreadablePicture:
                self._arrive(number, None)
                continue
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                self._over = True
                self._arrive(number, error)
                return
            taken = time.time() if frame.time_s is None else frame.time_s
            waited_s, network_s = (prepared - began) / AT_ONCE, (ended - prepared) / AT_ONCE
            self._arrive(number, Looked(taken, verdict, waited_s, network_s))

    def _arrive(self, number: int, what: _Arrived) -> None:
        with self._arrival:
            self._arrived[number] = what
            self._arrival.notify()


def looks(stream: Source, predictor: Predictor, spare: bool) -> Looks:
    """Return the way for `predictor`; `spare` is whether the network leaves a core over."""
    if predictor.at_once >= AT_ONCE:
        return TwoAtOnce(stream, predictor)
    return OneAtATime(FramesAhead(stream, predictor.input, ahead=spare), predictor)
