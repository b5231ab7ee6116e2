"""Full disks, cameras that go, files that somebody changed: said in a line, and it goes on."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from PIL import Image  # noqa: E402

from mobiletl.device.studio import feed, files, training  # noqa: E402
from mobiletl.device.studio.progress import Follower  # noqa: E402
from mobiletl.device.studio.project import Kept, Project  # noqa: E402
from runtime_tests.support.board.picture_folders import damage, write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import (  # noqa: E402
    Client,
    cameras_folder,
    served,
)
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def _png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 18), (shade, 100, 200)).save(out, "PNG")
    return out.getvalue()


def test_a_full_disk_is_said_and_nothing_is_torn(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, project, camera) as server, Client(server.port) as client:
        client.opened().ask("classes", name="cat")
        client.wait(lambda state: state["camera"]["state"] == "live")
        # What the disk has, and a terabyte more, is to stay free.
        monkeypatch.setattr(files, "RESERVE_BYTES", shutil.disk_usage("/").free + 10**12)
        refused = client.add("cat", _png(1))
        assert refused.status_code == 507
        assert "stay free" in refused.json()["error"]
        client.ask("record", **{"class": "cat", "on": True})
        found = client.wait(lambda state: state["recording"] is None)
        assert any("stay free" in note for note in found["notes"])
        client.ask("record", 507, **{"class": "cat", "on": True})
        assert found["limits"]["free_mb"] == 0
        monkeypatch.undo()
        assert client.add("cat", _png(1)).status_code == 201
    assert not [*project.rglob(".new-*")]


def test_a_camera_that_goes_is_waited_for(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WAITS", (0.2,))
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().wait(lambda state: state["camera"]["state"] == "live")
        shutil.rmtree(str(camera))
        found = client.wait(lambda state: state["camera"]["state"] == "waiting")
        client.ask("classes", name="cat")
        client.ask("record", 409, **{"class": "cat", "on": True})
        assert client.wait(lambda state: state["camera"]["message"])["camera"]["message"]
        assert found["recording"] is None
        cameras_folder(camera)
        client.wait(lambda state: state["camera"]["state"] == "live")


def test_a_camera_is_freed_and_taken_again(bundle: Path, tmp_path: Path) -> None:
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().wait(lambda state: state["camera"]["state"] == "live")
        client.ask("camera", on=False)
        assert client.state()["camera"]["state"] == "paused"
        client.ask("camera", on=True)
        client.wait(lambda state: state["camera"]["state"] == "live")


def test_without_a_camera_there_is_the_rest(bundle: Path, tmp_path: Path) -> None:
    with served(bundle, tmp_path / "project") as server, Client(server.port) as client:
        assert client.opened().state()["camera"]["state"] == "none"
        assert client.get("/camera.mjpg").status_code == 404
        client.ask("classes", name="cat")
        client.ask("record", 409, **{"class": "cat", "on": True})
        client.ask("camera", 409, on=True)


def test_memory_that_suffices_for_the_training_alone_stops_the_rest(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = cameras_folder(tmp_path / "camera")
    photos = write_pictures(tmp_path / "photos", {"red": 6, "green": 6})
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().teach(photos)
        monkeypatch.setattr(training, "available_bytes", lambda: 10)
        refused = client.ask("train", 409, epochs=1000)
        assert "are free" in refused["error"]
        assert client.state()["versions"] == []
        client.wait(lambda state: state["camera"]["state"] == "live")
        # 10 bytes before the studio has given its network up, enough afterwards.
        free = iter([10, 10**12])
        monkeypatch.setattr(training, "available_bytes", lambda: next(free))
        client.ask("train", epochs=1000)
        found = client.wait(lambda state: state["training"]["epoch"] > 1)
        assert found["camera"]["state"] == "paused"
        assert "memory" in found["camera"]["message"]
        client.ask("train/stop")
        client.wait(lambda state: state["camera"]["state"] == "live")


def test_a_version_of_another_bundle_is_shown_and_not_used(bundle: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    photos = write_pictures(tmp_path / "photos", {"red": 6, "green": 6})
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().teach(photos)
        version = client.ask("teach")["id"]
        client.ask("versions/use", id=version)
    other = write_tiny_bundle(tmp_path / "other", frozen="6" * 64)
    with served(other, project) as server, Client(server.port) as client:
        found = client.opened().wait(lambda state: state["teaching"]["state"] == "ready")
        assert [one["fits"] for one in found["versions"]] == [False]
        assert found["using"] == "live"
        assert any(version in note for note in found["notes"])
        for path in ("state", "onnx", "review"):
            assert client.get(f"/api/versions/{version}/{path}").status_code == 409
        client.ask("versions/use", 409, id=version)
        client.ask("versions/delete", id=version)


def test_pictures_that_are_damaged_or_came_twice_are_left_out(bundle: Path, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "project" / "pictures", {"red": 3, "green": 3})
    (pictures / "red" / "notes.txt").write_text("no picture")
    (pictures / "red" / "empty.jpg").write_bytes(b"")
    shutil.copy(str(pictures / "red" / "000.png"), str(pictures / "green" / "copy.png"))
    damage(pictures / "red" / "001.png")
    (pictures / ".new-0123").write_bytes(b"torn")
    with served(bundle, tmp_path / "project") as server, Client(server.port) as client:
        found = client.opened().wait(lambda state: state["teaching"]["state"] == "ready")
        # A picture that is in two classes stays in the first.
        assert found["classes"] == [{"name": "green", "count": 4}, {"name": "red", "count": 2}]
        assert len(found["notes"]) == 3
        client.ask("classes/rename", name="red", to="rot")
        found = client.wait(lambda state: state["teaching"]["state"] == "ready")
        assert [one["name"] for one in found["classes"]] == ["green", "rot"]
    assert not (pictures / ".new-0123").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "using": "live"}',
        '{"version": 1, "using": "../../etc"}',
        '{"version": 1, "using": "live", "training": {"version": "/tmp", "pid": 1}}',
        '{"version": 1, "using": "live", "training": {"version": "trained-20260101-000000", '
        '"pid": -1, "began": 0, "boot": "", "alone": false}}',
    ],
)
def test_a_damaged_project_file_costs_a_note(tmp_path: Path, content: str) -> None:
    (tmp_path / "studio.json").write_text(content)
    with Project(tmp_path) as project:
        assert project.kept == Kept()
        assert len(project.notes) == 1


EVENTS: list[Any] = [
    {"event": "started", "epochs": "many", "steps_per_epoch": None, "classes": 7, "pictures": []},
    {"event": "started", "epochs": 10**30, "classes": ["<b>", 7, "cat"], "planned_bytes": "x"},
    {"event": "step", "epoch": -1, "loss": "NaN", "accuracy": [], "seconds_left": {}},
    {"event": "step", "epoch": True, "loss": 1e999},
    {"event": "epoch", "epoch": "1"},
    {"event": "epoch", "epoch": 1, "val_loss": {"a": 1}, "val_accuracy": 0.5},
    {"event": "note", "text": "\x1b[31m" + "a" * 10_000},
    {"event": "part", "name": 7, "done": 1, "total": None},
    {"event": "ended", "outcome": "rm -rf", "message": ["x"]},
    {"event": ["ended"]},
    {"event": "__init__"},
    ["ended"],
    7,
    None,
]


def test_forged_events_end_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [json.dumps(line).encode() for line in EVENTS]
    odd = [b"\xff\xfe", b"[" * 100_000, b'{"event": "step", "loss": 1' + b"0" * 5000 + b"}", b"\0"]
    path.write_bytes(b"\n".join([*lines, *odd, b'{"event": "started", "epochs": 3']))
    follower = Follower(path)
    progress = follower.read()
    assert progress.outcome == "failed"
    assert progress.classes == ["<b>", "cat"]
    assert progress.history == {
        1: {"train_loss": None, "train_accuracy": None, "val_loss": None, "val_accuracy": 0.5}
    }
    assert "\x1b" not in progress.message
    started = progress.started
    with path.open("ab") as file:
        file.write(b', "classes": ["a", "b"]}\n')
    assert follower.read().started == started + 1
    assert follower.read().epochs == 3
    # A run that begins anew in the same folder.
    path.unlink()
    path.write_bytes(b'{"event": "started", "epochs": 5}\n')
    assert (follower.read().started, follower.read().epochs) == (1, 5)


def test_a_page_that_is_gone_ends_a_recording(bundle: Path, tmp_path: Path) -> None:
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().ask("classes", name="cat")
        client.wait(lambda state: state["camera"]["state"] == "live")
        began = time.monotonic()
        client.ask("record", **{"class": "cat", "on": True})
        client.wait(lambda state: state["recording"] is None)
        assert 1.5 < time.monotonic() - began < 6
        client.ask("record", **{"class": "cat", "on": True})
        client.ask("record", **{"class": "cat", "on": False})
        found: dict[str, Any] = client.state()
        assert found["recording"] is None
