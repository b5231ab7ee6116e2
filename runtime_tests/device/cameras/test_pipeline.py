"""GStreamer pipelines, with a real GStreamer where some Python here has an OpenCV with it.

PyPI's OpenCV has none, Debian's has: `sudo apt install python3-opencv python3-pil`, and
gstreamer1.0-plugins-base for the picture that the tests play.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mobiletl.device import cameras
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.errors import MissingDependency

cv2 = pytest.importorskip("cv2")

DEVICE = Path(cameras.__file__).parents[1]
HAS_GSTREAMER = "import cv2, numpy, PIL; print(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))"
# The first bars of the test picture are grey, yellow, cyan.
SOURCE = "videotestsrc pattern=smpte {} ! video/x-raw,width=320,height=240,framerate=30/1"
PLAY = """\
import json, sys
sys.path.insert(0, sys.argv[1])
import _script
_script.register()
from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.errors import NoCamera

told = []
try:
    with open_stream(sys.argv[2], tell=told.append) as stream:
        count = 0
        try:
            while count < 40:
                frame = stream.read()
                count += 1
        except CameraEnded:
            pass
        bars = [frame.content[60, x].tolist() for x in (20, 68, 114)]
        shape = frame.content.shape
        print(json.dumps([count, stream.live, stream.name, shape, bars, told]))
except NoCamera as error:
    print(json.dumps(str(error)))
"""


@functools.lru_cache(maxsize=None)
def python_with_gstreamer():
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python):
            asked = run(python, "-c", HAS_GSTREAMER)
            if asked.stdout.strip() == "True":
                return python
    return None


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


def play(pipeline):
    python = python_with_gstreamer()
    if python is None:
        pytest.skip("no Python here has an OpenCV with GStreamer")
    played = run(python, "-c", PLAY, str(DEVICE), pipeline)
    assert played.returncode == 0, played.stderr
    assert played.stderr == "", "libraries print what may hold a password"
    return json.loads(played.stdout)


def test_a_pipeline_that_ends_gives_every_frame_in_rgb():
    count, live, name, shape, bars, told = play(SOURCE.format("num-buffers=33"))
    assert (count, live, shape, told) == (33, False, [240, 320, 3], [])
    assert name == "pipeline videotestsrc"
    (grey, yellow, cyan) = bars
    assert min(grey) > 150
    assert yellow[0] > 150
    assert yellow[1] > 150
    assert yellow[2] < 50, "red, green, blue, in this order"
    assert cyan[0] < 50


def test_a_live_pipeline_is_read_as_a_camera():
    count, live, *_ = play(SOURCE.format("is-live=true"))
    assert (count, live) == (40, True)


def test_a_pipeline_with_an_end_of_its_own_is_left_as_it_is():
    own = " ! videoconvert ! video/x-raw,format=BGR ! appsink sync=false"
    assert play(SOURCE.format("num-buffers=5") + own)[0] == 5


def test_a_pipeline_that_is_wrong_is_one_line_without_its_properties():
    message = play("rtspsrc location=rtsp://user:s3cret@127.0.0.1:9/x ! nonsense ! fakesink")
    assert message.startswith("pipeline rtspsrc cannot be opened")
    assert "s3cret" not in message


def test_an_opencv_without_gstreamer_says_what_to_type():
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(MissingDependency, match="sudo apt install -y python3-opencv"):
        open_stream(SOURCE.format(""))
