"""Stands in for picamera2 where there is no libcamera, or none of its cameras.

Written from the Picamera2 manual and the signatures of picamera2 0.3.38; `test_picamera2.py`
compares its methods with the real package's source where that is found. It keeps the real one's
traps: the library's format "BGR888" is R, G, B in memory, odd sizes are refused, a camera opens
once only.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

CAMERA = {
    "Model": "imx708",
    "Location": 2,
    "Rotation": 180,
    "Id": "/base/i2c@1/imx708@1a",
    "Num": 0,
}
FRAME_S = 0.01


class Picamera2:
    """The methods that device/cameras/picamera2.py calls, and no others."""

    cameras: ClassVar[list[Any]] = [CAMERA]
    opened: ClassVar[set[int]] = set()
    last: Picamera2 | None = None
    broken = False

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num in self.opened:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.opened.add(camera_num)
        self.number, self.started, self.controls = camera_num, False, {}
        self.configuration: Any = None
        self.frames = 0
        type(self).last = self

    @staticmethod
    def global_camera_info() -> list[Any]:
        return Picamera2.cameras

    def create_video_configuration(self, main: Any = {}, controls: Any = {}) -> Any:  # noqa: B006
        main = {"format": "XBGR8888", "size": (1280, 720), **main}
        if any(side % 2 for side in main["size"]):
            raise RuntimeError("width and height should be even")
        return {"main": main, "controls": {"FrameDurationLimits": (33333, 33333), **controls}}

    def configure(self, camera_config: Any = None) -> None:
        if self.started:
            raise RuntimeError("Camera must be stopped before configuring")
        self.configuration = camera_config
        self.controls = dict(camera_config["controls"])

    def start(self) -> None:
        self.started = True

    def capture_array(self, name: str = "main") -> Any:
        self._next_frame()
        width, height = self.configuration[name]["size"]
        channels = {"BGR888": (200, 100, 50), "RGB888": (50, 100, 200)}
        colour = channels[self.configuration[name]["format"]]
        return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()

    def capture_metadata(self) -> Any:
        self._next_frame()
        return {
            "ExposureTime": 9982,
            "AnalogueGain": 1.5,
            "ColourGains": (2.1, 1.7),
            "Lux": 310.0,
            "SensorTimestamp": self.frames,
        }

    def set_controls(self, controls: Any) -> None:
        self.controls.update(controls)

    def close(self) -> None:
        self.started = False
        self.opened.discard(self.number)

    def _next_frame(self) -> None:
        if not self.started:
            raise AssertionError("the real one would wait for ever")
        if self.broken:
            raise RuntimeError("Camera frontend has timed out!")
        self.frames += 1
        time.sleep(FRAME_S)


def module() -> ModuleType:
    """Return what `import picamera2` would, with one free camera."""
    Picamera2.opened.clear()
    Picamera2.cameras, Picamera2.broken = [CAMERA], False
    made = ModuleType("picamera2")
    vars(made)["Picamera2"] = Picamera2
    return made
