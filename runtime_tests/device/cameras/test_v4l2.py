"""Devices that are not there or cannot be opened; a real one where this machine has it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
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


class _Webcam:
    """Obeys as the kernel's UVC driver: exposure is set in manual mode only, heights are 480."""

    def __init__(self, cv2):
        self.cv2, self.order = cv2, []
        self.values = {
            cv2.CAP_PROP_AUTO_EXPOSURE: 3,  # V4L2_EXPOSURE_APERTURE_PRIORITY
            cv2.CAP_PROP_EXPOSURE: 157,
            cv2.CAP_PROP_AUTO_WB: 1,
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
        }

    def isOpened(self):
        return True

    def get(self, number):
        return float(self.values.get(number, 0))

    def set(self, number, value):
        automatic = self.values[self.cv2.CAP_PROP_AUTO_EXPOSURE] != v4l2.MANUAL_EXPOSURE
        if number == self.cv2.CAP_PROP_EXPOSURE and automatic:
            return False
        self.order.append(number)
        self.values[number] = value
        return True

    def read(self):
        width, height = self.get(self.cv2.CAP_PROP_FRAME_WIDTH), 480
        return True, np.full((int(height), int(width), 3), 90, np.uint8)

    def grab(self):
        return True

    def release(self):
        """Nothing is held."""


def test_a_stand_in_webcam_is_asked_for_size_rate_and_a_locked_exposure(monkeypatch):
    import cv2

    webcam = _Webcam(cv2)
    monkeypatch.setattr(cv2, "VideoCapture", lambda device, backend: webcam)
    told = []
    with open_stream("0", Wanted(1280, 720, 15.0, True), tell=told.append) as stream:
        assert stream.read().content.shape == (480, 1280, 3)
    values = webcam.values
    assert values[cv2.CAP_PROP_FPS] == 15.0
    assert values[cv2.CAP_PROP_AUTO_EXPOSURE] == v4l2.MANUAL_EXPOSURE
    assert values[cv2.CAP_PROP_EXPOSURE] == 157, "what the automatic had found"
    assert values[cv2.CAP_PROP_AUTO_WB] == 0
    # The format decides which sizes there are.
    size = webcam.order.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert webcam.order.index(cv2.CAP_PROP_FOURCC) < size
    assert told == [
        "camera 0 gives 1280 x 480 pixels, not the 1280 x 720 that were asked for; it goes on with "
        "these"
    ]


def test_a_stand_in_webcam_without_manual_exposure_is_told(monkeypatch):
    import cv2

    webcam = _Webcam(cv2)
    obey = webcam.set
    webcam.set = lambda number, value: number != cv2.CAP_PROP_AUTO_EXPOSURE and obey(number, value)
    monkeypatch.setattr(cv2, "VideoCapture", lambda device, backend: webcam)
    told = []
    with open_stream("/dev/video0", Wanted(lock_exposure=True), tell=told.append) as stream:
        stream.read()
    assert told == ["camera /dev/video0 cannot lock its exposure; it goes on without"]


def test_a_real_device_gives_frames():
    """A webcam, or v4l2loopback with something that writes to it."""
    usable = [device for device in video_devices() if of_device(device) is None]
    if not usable:
        pytest.skip("no usable /dev/video* here")
    with open_stream(usable[0].path, Wanted(640, 480)) as stream:
        frames = [stream.read() for _ in range(10)]
    assert len({frame.identity() for frame in frames}) > 1
    assert Path(usable[0].path).exists()


@pytest.mark.parametrize(
    ("source", "device"),
    [("0", True), ("/dev/video97", True), ("/dev/v4l/by-id/usb-x", True), ("/dev/shm/a", False)],
)
def test_what_means_a_device(source, device):
    assert v4l2.is_device(source) is device
