"""A network camera that goes, comes back, is covered, or gives another size: all of it is said."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

for package in ("cv2", "httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from mobiletl.device.cameras.base import Wanted  # noqa: E402
from mobiletl.device.studio import feed  # noqa: E402
from mobiletl.device.studio.live import Live  # noqa: E402
from runtime_tests.support.board.mjpeg_server import MjpegServer  # noqa: E402
from runtime_tests.support.board.picture_folders import write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import Client, served  # noqa: E402
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402

WANTED = Wanted(rate=20)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def camera() -> Iterator[MjpegServer]:
    with MjpegServer() as running:
        yield running


@contextlib.contextmanager
def opened(
    bundle: Path, folder: Path, camera: MjpegServer, wanted: Wanted = WANTED
) -> Iterator[tuple[Client, Live]]:
    """A studio with this camera: a client, and what answers."""
    serving = served(bundle, folder / "project", camera.address, wanted=wanted)
    with serving as server, Client(server.port) as client:
        yield client.opened(), server._studio.live


def camera_is(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: found["camera"]["state"] == state


def test_a_camera_that_is_tried_again_is_not_live(
    bundle: Path, tmp_path: Path, camera: MjpegServer
) -> None:
    photos = write_pictures(tmp_path / "photos", {"red": 3, "green": 3})
    with opened(bundle, tmp_path, camera) as (client, live):
        client.teach(photos)
        client.wait(camera_is("live"))
        live.watch()
        client.wait(lambda _: live.answer[1] is not None)
        camera.kill()
        found = client.wait(camera_is("lost"), 10)
        assert "it is tried again" in found["camera"]["message"]
        live.watch()
        client.wait(lambda _: live.answer[1] is None, 5)
        refused = client.ask("record", 409, **{"class": "red", "on": True})
        assert "it is tried again" in refused["error"]
        assert client.state()["recording"] is None
        client.ask("camera", on=False)
        assert client.state()["camera"]["state"] == "paused"


def test_a_camera_that_is_back_is_live_by_itself(
    bundle: Path, tmp_path: Path, camera: MjpegServer
) -> None:
    with opened(bundle, tmp_path, camera) as (client, _):
        client.ask("classes", name="red")
        client.wait(camera_is("live"))
        camera.kill()
        client.wait(camera_is("lost"), 10)
        camera.start()
        found = client.wait(camera_is("live"))
        assert "is back" in found["camera"]["message"]
        client.ask("record", **{"class": "red", "on": True})


def test_black_frames_are_said_for_as_long_as_they_come_and_never_recorded(
    bundle: Path, tmp_path: Path, camera: MjpegServer
) -> None:
    camera.kill()
    camera.start("--black")
    with opened(bundle, tmp_path, camera) as (client, _):
        client.ask("classes", name="red")
        found = client.wait(lambda state: "are black" in state["camera"]["message"])
        assert found["camera"]["state"] == "live"
        assert found["camera"]["message"].count("are black") == 1
        assert found["recording_note"] == ""
        client.ask("record", **{"class": "red", "on": True})
        found = client.wait(lambda state: state["recording_note"])
        assert found["recording_note"] == "black pictures are left out"
        found = client.wait(lambda state: state["recording"] is None)
        assert found["classes"] == [{"name": "red", "count": 0}]
        assert found["recording_note"] == ""
        camera.kill()
        camera.start()
        client.wait(lambda state: "is back" in state["camera"]["message"])
        assert "are black" not in client.wait(camera_is("live"))["camera"]["message"]


def test_a_size_that_is_not_given_is_said_as_long_as_the_camera_is_live(
    bundle: Path, tmp_path: Path, camera: MjpegServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SAID_SECONDS", 0.0)
    wanted = Wanted(width=1280, height=720)
    with opened(bundle, tmp_path, camera, wanted=wanted) as (client, _):
        found = client.wait(lambda state: state["camera"]["fps"] > 5)
        assert "not the 1280 x 720" in found["camera"]["message"]
