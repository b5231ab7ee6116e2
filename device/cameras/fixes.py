"""What keeps a camera from being used, and what to type: one text for errors and for the doctor.

Nothing but the machine's files is looked at, so `mobiletl doctor` can say all of it where neither
NumPy nor a camera's library is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from mobiletl.device.cameras.devices import VideoDevice

VENV = "python3 -m venv --system-site-packages .venv"
# As the extra `cameras` of pyproject.toml; this line also works beside a copied runner.
INSTALL_OPENCV = 'pip install "opencv-python-headless>=4.8,<4.12"'
APT_OPENCV = f"sudo apt install -y python3-opencv, in an environment that sees it: {VENV}"
APT_PICAMERA2 = "sudo apt install -y python3-picamera2"


@dataclass(frozen=True)
class Fix:
    """What was found, and what to type or do."""

    found: str
    to_type: str

    def __str__(self) -> str:
        return f"{self.found}; {self.to_type}"


NO_OPENCV = Fix("OpenCV is not installed", f"{INSTALL_OPENCV}, or {APT_OPENCV}")
NO_GSTREAMER = Fix(
    "the OpenCV of PyPI is built without GStreamer",
    "use the system's, which has it: pip uninstall -y opencv-python-headless opencv-python; "
    + APT_OPENCV,
)
NO_PICAMERA2 = Fix(
    "picamera2 is not installed",
    f"{APT_PICAMERA2}, then an environment that sees it: {VENV}",
)
HIDDEN_PICAMERA2 = Fix(
    "picamera2 is installed for the system's Python; this environment does not see it", VENV
)
NEWER_NUMPY = Fix(
    "picamera2 of the system was built for an older NumPy than this environment has "
    "(raspberrypi/picamera2#1211)",
    "pip uninstall -y numpy, in this environment: the system's is found then",
)
NO_RIBBON_CAMERA = Fix(
    "no camera is found on the ribbon",
    "check the ribbon at both ends, start again, and look with: rpicam-hello --list-cameras",
)
BUSY_RIBBON_CAMERA = Fix(
    "the camera on the ribbon does not start; another program may have it",
    "close that program (rpicam-hello, a preview, another mobiletl), or look with: "
    "rpicam-hello --list-cameras",
)


def of_device(device: VideoDevice) -> Fix | None:
    """Return what keeps `device` from giving pictures to OpenCV, as far as files say."""
    if device.ribbon:
        return Fix(
            f"{device.shown()} is the camera on the ribbon, which OpenCV cannot open",
            "--camera picamera2; on a Jetson --camera 'nvarguscamerasrc ! ...' (docs/cameras.md)",
        )
    if not device.allowed:
        return Fix(
            f"{device.shown()} is not for this user",
            "sudo usermod -aG video $USER, then log out and in again",
        )
    if device.index > 0:
        return Fix(
            f"{device.shown()} carries a camera's data and no pictures",
            "name the device with the next lower number",
        )
    if device.holders:
        return Fix(
            f"{device.shown()} is in use by {', '.join(device.holders)}",
            "close that program; it is found with: fuser -v " + device.path,
        )
    return None


def no_such_device(path: str, others: Sequence[VideoDevice]) -> Fix:
    """Say that there is no `path`, and which devices there are."""
    usable = [device for device in others if device.index == 0]
    if not usable:
        return Fix(
            f"there is no {path}, nor any other /dev/video*",
            "plug a camera in, or give a container its device (--device /dev/video0); a camera on "
            "the ribbon of a Raspberry Pi is --camera picamera2",
        )
    return Fix(
        f"there is no {path}",
        f"there is {', '.join(device.shown() for device in usable)}: --camera {usable[0].path}",
    )
