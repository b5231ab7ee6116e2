"""The check of cameras: which could be opened, and what to type where none can.

What is said is that of the errors a camera raises (`cameras/fixes.py`).
"""

from __future__ import annotations

from mobiletl.device.cameras import fixes
from mobiletl.device.diagnosis.facts import Facts
from mobiletl.device.diagnosis.findings import NOTE, OK, WARNING, Finding
from mobiletl.device.diagnosis.packages import numbers

# PyPI's builds, which have no GStreamer.
PYPI_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless")


def check_camera(facts: Facts) -> Finding:
    """Which cameras could be opened; training from folders needs none."""
    process = facts.process
    raspberry = facts.model.startswith("Raspberry Pi")
    if "picamera2" in process.importable:
        return _picamera2(facts)
    if raspberry and facts.system_picamera2:
        return _finding(NOTE, fixes.HIDDEN_PICAMERA2)
    if "cv2" in process.importable:
        return _opencv(facts)
    return Finding(
        "camera",
        NOTE,
        "no camera library; pictures in folders need none",
        fixes.APT_PICAMERA2 if raspberry else fixes.NO_OPENCV.to_type,
    )


def _picamera2(facts: Facts) -> Finding:
    ours, *below = facts.process.packages.get("numpy", ("",))
    if below and numbers(ours) >= (2,) and numbers(below[-1]) < (2,):
        return _finding(WARNING, fixes.NEWER_NUMPY)
    return Finding("camera", OK, "picamera2 for cameras on the ribbon", "")


def _opencv(facts: Facts) -> Finding:
    problems = [(device, fixes.of_device(device)) for device in facts.video_devices]
    usable = [device.shown() for device, fix in problems if fix is None]
    ribbon = facts.model.startswith("NVIDIA Jetson")
    if usable:
        return Finding("camera", OK, f"OpenCV for USB cameras ({', '.join(usable)})", "")
    for _, fix in problems:
        if fix is not None:
            return _finding(WARNING, fix)
    if ribbon and any(name in facts.process.packages for name in PYPI_OPENCV):
        return _finding(NOTE, fixes.NO_GSTREAMER)
    return Finding("camera", OK, "OpenCV for USB cameras (no /dev/video* now)", "")


def _finding(level: str, fix: fixes.Fix) -> Finding:
    return Finding("camera", level, fix.found, fix.to_type)
