"""What is away is waited for, and is no bad picture."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mobiletl.device.bundle.decode import PictureAway, UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.errors import PicturesAway
from mobiletl.device.pictures.outage import FIRST_WAIT_S, LONGEST_WAIT_S, patiently
from runtime_tests.support.board.picture_folders import damage, write_pictures


def test_waits_grow_and_end() -> None:
    waits: list[float] = []

    def away() -> None:
        raise PictureAway("a.jpg", "Input/output error")

    with pytest.raises(PicturesAway, match=r"a\.jpg cannot be read .* tried for 60 s; .*--resume"):
        patiently(away, waits.append)
    assert waits[0] == FIRST_WAIT_S
    assert sum(waits) == pytest.approx(60)
    assert max(waits) == LONGEST_WAIT_S


def test_what_comes_back_is_read(tmp_path: Path) -> None:
    """A folder that is renamed away for half a second, as an automounter's may be."""
    here = write_pictures(tmp_path / "here", {"a": 1})
    frame = Frame("a", here / "a" / "000.png")
    before = frame.decode(8).tobytes()
    here.rename(tmp_path / "away")
    back = threading.Timer(0.5, lambda: (tmp_path / "away").rename(here))
    back.start()
    started = time.monotonic()
    assert patiently(lambda: frame.decode(8)).tobytes() == before
    assert time.monotonic() - started > 0.3
    back.join()


def test_a_damaged_picture_is_not_waited_for(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"a": 1})
    damage(tmp_path / "a" / "000.png")

    def never(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s")

    with pytest.raises(UnreadablePicture):
        patiently(lambda: Frame("a", tmp_path / "a" / "000.png").decode(8), never)
