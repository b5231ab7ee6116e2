"""Cameras on the ribbon, on a stand-in for picamera2; and the stand-in against the real package.

The real package needs libcamera's bindings, which Raspberry Pi OS and Debian 13 have.
`whole/test_real_picamera2.py` runs this file on both in a Debian 13 that it unpacks. Frames come
from the stand-in: the last test takes them from the real thing where there is a camera.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from mobiletl.device.cameras import picamera2 as ours
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.cameras.stream import Patience, open_stream
from mobiletl.device.errors import MissingDependency, NoCamera
from runtime_tests.support.board import picamera2_stand_in as stand_in

INSTALLED = importlib.util.find_spec("picamera2")


@pytest.fixture
def library(monkeypatch):
    made = stand_in.module()
    monkeypatch.setitem(sys.modules, "picamera2", made)
    return made.Picamera2


def test_stand_in_frames_are_rgb_in_the_size_and_rate_that_is_asked_for(library):
    with open_stream("picamera2", Wanted(320, 240, 15.0)) as stream:
        frame = stream.read()
        assert frame.content.shape == (240, 320, 3)
        assert tuple(frame.content[0, 0]) == (200, 100, 50)
        assert library.last.controls["FrameRate"] == 15.0
        assert stream.name == "picamera2"
    assert not library.opened, "given back"


def test_stand_in_lock_keeps_what_the_camera_has_found(library):
    with open_stream("picamera2", Wanted(lock_exposure=True)) as stream:
        stream.read()
        controls = library.last.controls
    assert controls["AeEnable"] is False
    assert controls["AwbEnable"] is False
    assert controls["ExposureTime"] == 9982
    assert controls["ColourGains"] == (2.1, 1.7)


def test_stand_in_odd_size_is_made_even_and_told(library):
    told = []
    with open_stream("picamera2", Wanted(321, 241), tell=told.append) as stream:
        assert stream.read().content.shape == (240, 320, 3)
    assert told == [
        "picamera2 gives 320 x 240 pixels, not the 321 x 241 that were asked for; it goes on with "
        "these"
    ]


def test_stand_in_no_camera_a_missing_second_one_and_a_busy_one(library):
    with pytest.raises(NoCamera, match="picamera2:1: no camera is found on the ribbon"):
        open_stream("picamera2:1")
    with open_stream("picamera2"), pytest.raises(NoCamera, match="another program may have it"):
        open_stream("picamera2")
    library.cameras = []
    with pytest.raises(NoCamera, match="rpicam-hello --list-cameras"):
        open_stream("picamera2")


def test_stand_in_a_camera_that_breaks_comes_back(library):
    told = []
    patience = Patience(first_wait_s=0.05, lost_s=10)
    with open_stream("picamera2", tell=told.append, patience=patience) as stream:
        stream.read()

        def mended():
            library.broken = False
            return False

        library.broken = True
        stream._stop = _OnThird(mended)
        for _ in range(5):
            stream.read()
        assert stream.losses == 1
    assert "has timed out" in told[0]
    assert "is back after" in told[1]


class _OnThird:
    """A stop that is never requested; asking three times mends the camera."""

    def __init__(self, deed):
        self.asked, self.deed = 0, deed

    def __bool__(self):
        self.asked += 1
        return self.asked > 3 and self.deed()


@pytest.mark.skipif(INSTALLED is not None, reason="picamera2 is installed here")
def test_where_it_is_missing_the_line_says_what_to_type(monkeypatch, tmp_path):
    with pytest.raises(MissingDependency, match="sudo apt install -y python3-picamera2"):
        open_stream("picamera2")
    monkeypatch.setattr(ours, "SYSTEM", tmp_path)
    with pytest.raises(MissingDependency, match="--system-site-packages"):
        open_stream("picamera2")


def test_a_library_built_for_another_numpy_is_told_apart(monkeypatch, tmp_path):
    package = tmp_path / "picamera2"
    package.mkdir()
    error = "numpy.dtype size changed, may indicate binary incompatibility"
    (package / "__init__.py").write_text(f"raise ValueError({error!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    with pytest.raises(MissingDependency, match="pip uninstall -y numpy"):
        open_stream("picamera2")


@pytest.mark.skipif(INSTALLED is None, reason="picamera2 is not installed here")
def test_the_stand_in_has_no_method_and_no_parameter_that_the_real_package_lacks():
    source = Path(INSTALLED.origin).with_name("picamera2.py").read_text(encoding="utf-8")
    (real,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Picamera2"
    )
    # Overloads come before what they stand for, so the last of a name counts.
    methods = {node.name: node for node in real.body if isinstance(node, ast.FunctionDef)}
    for name, method in vars(stand_in.Picamera2).items():
        function = getattr(method, "__func__", method)
        if not inspect.isfunction(function) or (name.startswith("_") and name != "__init__"):
            continue
        arguments = methods[name].args
        known = [one.arg for one in [*arguments.args, *arguments.kwonlyargs]]
        assert set(inspect.signature(function).parameters) <= set(known), name


@pytest.mark.skipif(INSTALLED is None, reason="picamera2 is not installed here")
def test_the_real_camera_gives_frames():
    try:
        stream = open_stream("picamera2", Wanted(640, 480))
    except (MissingDependency, NoCamera) as error:
        pytest.skip(str(error))
    with stream:
        assert stream.read().content.shape == (480, 640, 3)
