"""A folder is played picture by picture, in time, once or again and again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.cameras.base import CameraEnded, CameraLost
from mobiletl.device.cameras.folder import FolderCamera


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.txt").write_text("no picture")
    return tmp_path


def test_plays_all_pictures_in_order_then_ends(folder):
    with FolderCamera(folder) as camera:
        assert [int(camera.read()[0, 0, 0]) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(CameraEnded):
            camera.read()


def test_begins_anew(folder):
    camera = FolderCamera(folder, again=True)
    assert [int(camera.read()[0, 0, 0]) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_keeps_its_rate(folder):
    now = [0.0]

    def wait(seconds):
        now[0] += seconds

    camera = FolderCamera(folder, 4.0, True, lambda: now[0], wait)
    for _ in range(9):
        assert camera.read().dtype == np.uint8
    assert now[0] == pytest.approx(2.0)


def test_refuses_a_folder_without_files_and_ends_without_pictures(tmp_path):
    with pytest.raises(CameraLost, match="holds no file"):
        FolderCamera(tmp_path)
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(CameraEnded):
        FolderCamera(tmp_path, again=True).read()
