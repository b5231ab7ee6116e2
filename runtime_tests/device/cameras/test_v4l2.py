"""Devices that are not there or cannot be opened; a real one where this machine has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mobiletl.device.cameras import v4l2
from mobiletl.device.cameras.base import CameraLost, Wanted
from mobiletl.device.cameras.devices import VideoDevice, video_devices
from mobiletl.device.cameras.fixes import of_device
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.errors import NoCamera

pytest.importorskip("cv2")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's")


def test_a_device_that_is_not_there_names_those_that_are(monkeypatch):
    with pytest.raises(NoCamera, match=r"there is no /dev/video97"):
        open_stream("97")
    webcam = VideoDevice("/dev/video4", "HD Webcam")
    monkeypatch.setattr(v4l2, "video_devices", lambda: (webcam,))
    with pytest.raises(NoCamera, match=r"there is /dev/video4 \(HD Webcam\): --camera /dev/video4"):
        open_stream("/dev/video98")


@pytest.mark.parametrize(
    ("device", "line"),
    [
        (VideoDevice("/dev/video98", "C270", allowed=False), "sudo usermod -aG video"),
        (VideoDevice("/dev/video98", "C270", holders=("vlc (process 7)",)), "in use by vlc"),
        (VideoDevice("/dev/video98", "unicam"), "--camera picamera2"),
        (VideoDevice("/dev/video98", "C270", index=1), "no pictures"),
        (VideoDevice("/dev/video98", "C270"), "sudo dmesg"),
    ],
)
def test_a_device_that_cannot_be_opened_says_why(monkeypatch, device, line):
    monkeypatch.setattr(v4l2, "video_devices", lambda: (device,))
    with pytest.raises(NoCamera, match=line):
        open_stream("98")


class _Unplugged:
    """A capture whose device has gone: every reading fails."""

    def read(self):
        return False, None

    def grab(self):
        return False

    def release(self):
        """Nothing is held."""


def test_a_device_that_is_unplugged_is_lost_and_says_so():
    import cv2

    camera = v4l2.DeviceCamera(cv2, _Unplugged(), "camera 98", "/dev/video98")
    for read in (camera.read, camera.skip):
        with pytest.raises(CameraLost, match=r"gives no frames: there is no /dev/video98"):
            read()


def test_a_real_device_gives_frames():
    """A webcam, or v4l2loopback with something that writes to it."""
    usable = [device for device in video_devices() if of_device(device) is None]
    if not usable:
        pytest.skip("no usable /dev/video* here")
    with open_stream(usable[0].path, Wanted(640, 480)) as stream:
        frames = [stream.read() for _ in range(10)]
    assert len({frame.identity() for frame in frames}) > 1
    assert Path(usable[0].path).exists()
