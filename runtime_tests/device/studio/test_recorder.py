"""What a held button adds to a class."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.studio.album import Album
from mobiletl.device.studio.feed import Feed
from mobiletl.device.studio.recorder import Recorder
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.uploads import Inbox


def scene(random: np.random.Generator, smooth: bool) -> Pixels:
    """A frame of 320 x 240 pixels with structures of 60 pixels, or of 4."""
    size = (4, 5) if smooth else (60, 80)
    coarse = Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8))
    return np.array(coarse.resize((320, 240), Image.BICUBIC))


def test_a_smooth_scene_is_recorded_after_a_sharp_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for folder in ("camera", "pictures"):
        (tmp_path / folder).mkdir()
    for number in range(24):
        frame = scene(random, smooth=number >= 12)
        Image.fromarray(frame).save(tmp_path / "camera" / f"{number:02d}.png")
    album = Album(tmp_path / "pictures")
    feed = Feed(str(tmp_path / "camera"), Wanted(rate=15), View())
    with feed, Recorder(Inbox(album, 64), feed) as recorder:
        feed.start()
        for class_name, smooth, pictures in (("sharp", False, 3), ("smooth", True, 1)):
            album.add_class(class_name)
            held = 0
            while dict(album.counts())[class_name] < pictures:
                shot = feed.newest()
                if shot is None or (roughness(shot.pixels) < 10) != smooth:
                    recorder.release(class_name)
                else:
                    held += 1
                    # A hundred looks are two seconds at least.
                    assert held < 100 or not smooth
                    # At the end of the folder the camera is away for a moment.
                    with contextlib.suppress(Refused):
                        recorder.hold(class_name)
                time.sleep(0.02)
            recorder.release(class_name)


def roughness(pixels: Pixels) -> float:
    return float(np.abs(np.diff(pixels.astype(int), axis=1)).mean())
