"""Frames are read and prepared one ahead, in order, and whatever ends them arrives after them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.errors import NoCamera
from mobiletl.device.prediction.ahead import FramesAhead

SIZE = Input(8, 9, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Source:
    name = "a test"

    def __init__(self, frames: int, end: Exception, wait_s: float = 0.0) -> None:
        self.frames, self.end, self.wait_s = frames, end, wait_s
        self.read_frames = 0

    def read(self) -> Frame:
        time.sleep(self.wait_s)
        if self.read_frames == self.frames:
            raise self.end
        self.read_frames += 1
        return Frame(f"f{self.read_frames}", pixels(self.read_frames), 100.0 + self.read_frames)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)


def test_every_frame_comes_in_order_and_as_a_file_is_prepared() -> None:
    source = Source(20, CameraEnded("over"))
    with FramesAhead(source, SIZE) as frames:
        for number in range(1, 21):
            found = frames.next(5.0)
            assert found is not None
            assert (found.name, found.time_s) == (f"f{number}", 100.0 + number)
            expected = prepare(Frame("x", pixels(number)), SIZE)
            assert np.array_equal(found.image[0], expected)
        with pytest.raises(CameraEnded):
            frames.next(5.0)


def test_one_frame_ahead_and_no_more() -> None:
    source = Source(20, CameraEnded("over"))
    with FramesAhead(source, SIZE) as frames:
        assert frames.next(5.0) is not None
        time.sleep(0.2)
        # One is looked at, the other one waits.
        assert source.read_frames == 2


def test_without_a_core_to_spare_a_frame_is_read_when_it_is_asked_for() -> None:
    source = Source(20, CameraEnded("over"))
    with FramesAhead(source, SIZE, ahead=False) as frames:
        for number in range(1, 21):
            found = frames.next(5.0)
            assert found is not None
            assert np.array_equal(found.image[0], prepare(Frame("x", pixels(number)), SIZE))
            if number < 3:
                time.sleep(0.1)
            assert source.read_frames == number
        with pytest.raises(CameraEnded):
            frames.next(5.0)


def test_what_reading_raises_comes_after_the_frames_before_it() -> None:
    with FramesAhead(Source(2, NoCamera("gone")), SIZE) as frames:
        assert frames.next(5.0)
        assert frames.next(5.0)
        with pytest.raises(NoCamera, match="gone"):
            frames.next(5.0)


def test_waiting_ends_and_closing_ends_the_thread() -> None:
    with FramesAhead(Source(1, CameraEnded("over"), wait_s=0.3), SIZE) as frames:
        assert frames.next(0.01) is None
    assert frames.ended
    assert not [thread for thread in threading.enumerate() if thread.name == "frames"]


def test_a_frame_that_is_no_picture_is_left_out() -> None:
    class Odd(Source):
        def read(self) -> Frame:
            frame = super().read()
            return Frame(frame.name, b"no picture") if self.read_frames == 2 else frame

    with FramesAhead(Odd(3, CameraEnded("over")), SIZE) as frames:
        names = [found.name for found in (frames.next(5.0), frames.next(5.0)) if found]
        assert names == ["f1", "f3"]
        assert frames.unreadable == 1
