"""Frames and verdicts come in the camera's order, one at a time or two at once."""

from __future__ import annotations

import threading
import time
from typing import Callable

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.errors import InternalError, NoCamera
from mobiletl.device.prediction.ahead import FramesAhead
from mobiletl.device.prediction.looking import Looks, OneAtATime, TwoAtOnce, looks
from mobiletl.device.prediction.predictor import Predictor, Verdict

SIZE = Input(8, 9, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Network:
    """Answers with the picture's own mean; even frames take longer, so that odd ones overtake."""

    def __init__(self, at_once: int = 2) -> None:
        self.input, self.at_once = SIZE, at_once
        self.inside = self.most_inside = self.looked = 0
        self._lock = threading.Lock()

    def look(self, image: Floats) -> Verdict:
        with self._lock:
            self.looked += 1
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
            slow = self.looked % 2
        time.sleep(0.02 if slow else 0.002)
        with self._lock:
            self.inside -= 1
        return Verdict(np.array([float(image.mean())]))


class Source:
    name = "a test"

    def __init__(self, frames: int, end: Exception, wait_s: float = 0.0) -> None:
        self.frames, self.end, self.wait_s = frames, end, wait_s
        self.read_frames = 0
        self._lock = threading.Lock()

    def read(self) -> Frame:
        # A camera is no place for two.
        assert self._lock.acquire(blocking=False)
        try:
            time.sleep(self.wait_s)
            if self.read_frames == self.frames:
                raise self.end
            self.read_frames += 1
            return Frame(f"f{self.read_frames}", pixels(self.read_frames), 100.0 + self.read_frames)
        finally:
            self._lock.release()


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)


def one(source: Source, network: Network) -> Looks:
    return OneAtATime(FramesAhead(source, SIZE), network)  # type: ignore[arg-type]


def two(source: Source, network: Network) -> Looks:
    return TwoAtOnce(source, network)  # type: ignore[arg-type]


Way = Callable[[Source, Network], Looks]
BOTH = pytest.mark.parametrize("way", [one, two])


@BOTH
def test_verdicts_come_in_the_order_of_the_frames(way: Way) -> None:
    with way(Source(20, CameraEnded("over")), Network()) as found:
        for number in range(1, 21):
            looked = found.next(5.0)
            assert looked is not None
            assert looked.time_s == 100.0 + number
            expected = prepare(Frame("x", pixels(number)), SIZE).mean()
            assert looked.verdict.probabilities[0] == pytest.approx(expected)
            assert looked.network_s > 0
        with pytest.raises(CameraEnded):
            found.next(5.0)


def test_two_are_looked_at_at_once_and_no_more_are_read() -> None:
    source, network = Source(20, CameraEnded("over")), Network()
    with two(source, network) as found:
        assert found.next(5.0) is not None
        time.sleep(0.2)
        # The two that wait, and the one that was given.
        assert source.read_frames == 3
        for _ in range(19):
            assert found.next(5.0) is not None
    assert network.most_inside == 2


@BOTH
def test_what_reading_raises_comes_after_the_frames_before_it(way: Way) -> None:
    with way(Source(3, NoCamera("gone")), Network()) as found:
        for _ in range(3):
            assert found.next(5.0)
        with pytest.raises(NoCamera, match="gone"):
            found.next(5.0)


def test_what_the_network_raises_is_not_lost() -> None:
    class Broken(Network):
        def look(self, image: Floats) -> Verdict:
            if self.looked == 2:
                raise InternalError("no memory")
            return super().look(image)

    with two(Source(20, CameraEnded("over")), Broken()) as found:
        assert found.next(5.0)
        assert found.next(5.0)
        with pytest.raises(InternalError):
            found.next(5.0)


@BOTH
def test_a_frame_that_is_no_picture_is_left_out(way: Way) -> None:
    class Odd(Source):
        def read(self) -> Frame:
            frame = super().read()
            return Frame(frame.name, b"no picture") if self.read_frames == 2 else frame

    with way(Odd(3, CameraEnded("over")), Network()) as found:
        times = [looked.time_s for looked in (found.next(5.0), found.next(5.0)) if looked]
        assert times == [101.0, 103.0]
        assert found.unreadable == 1


@BOTH
def test_waiting_ends_and_closing_ends_the_threads(way: Way) -> None:
    with way(Source(1, CameraEnded("over"), wait_s=0.3), Network()) as found:
        assert found.next(0.01) is None
    assert not [thread for thread in threading.enumerate() if thread.name == "frames"]


def test_a_camera_that_never_answers_does_not_keep_it() -> None:
    answers = threading.Event()

    class Silent(Source):
        def read(self) -> Frame:
            answers.wait()
            return super().read()

    found = TwoAtOnce(Silent(5, CameraEnded("over")), Network())  # type: ignore[arg-type]
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 4.0
    assert not found.ended
    answers.set()
    until = time.monotonic() + 5.0
    while not found.ended:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("at_once", "kind"), [(1, OneAtATime), (2, TwoAtOnce)])
def test_the_predictor_says_which_way(at_once: int, kind: type) -> None:
    network: Predictor = Network(at_once)  # type: ignore[assignment]
    with looks(Source(1, CameraEnded("over")), network, False) as found:
        assert isinstance(found, kind)
