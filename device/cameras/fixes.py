"""What to type when a camera cannot be used: one text for the errors and for `mobiletl doctor`.

Nothing is imported here, so the doctor can say it where nothing else is installed.
"""

from __future__ import annotations

VENV = "python3 -m venv --system-site-packages .venv"
INSTALL_OPENCV = (
    'pip install "mobiletl[cameras]", or sudo apt install -y python3-opencv and an environment '
    f"that sees it: {VENV}"
)
NO_GSTREAMER = (
    "PyPI's has none, the system's has: pip uninstall -y opencv-python-headless; "
    f"sudo apt install -y python3-opencv; {VENV}"
)
