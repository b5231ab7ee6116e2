"""A studio that is killed loses nothing: pictures, sessions, what was learned, a training."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from mobiletl.device.bundle.bundle import open_bundle  # noqa: E402
from mobiletl.device.errors import UsageError  # noqa: E402
from mobiletl.device.run.events_file import read_events  # noqa: E402
from mobiletl.device.studio import processes  # noqa: E402
from mobiletl.device.studio.embeddings import HEAD  # noqa: E402
from mobiletl.device.studio.project import Project  # noqa: E402
from runtime_tests.support.board.picture_folders import write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import (  # noqa: E402
    Client,
    Process,
    free_port,
    served,
)
from runtime_tests.support.board.tiny_bundle import CHANNELS, write_tiny_bundle  # noqa: E402

# A training that is not over before a busy machine has killed it, nor on a fast one: of so many
# epochs and pictures.
LONG, MANY = 1000, {"red": 120, "green": 120}
COUNTS = {"red": 30, "green": 30}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos", COUNTS)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos", MANY)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose training ends with the test."""
    folder = tmp_path / "project"
    yield folder
    child = Project(folder).kept.training
    if child is not None and processes.runs(child):
        os.kill(child.pid, signal.SIGKILL)


def test_a_server_that_is_killed_finds_its_training_again(
    bundle: Path, many: Path, project: Path
) -> None:
    port = free_port()
    server = Process(bundle, project, port=port)
    with Client(port) as client:
        client.opened().teach(many)
        version = client.ask("train", epochs=LONG)["id"]
        before = client.wait(lambda state: state["training"]["epoch"] > 1)["training"]
        server.kill()
    events = project / "versions" / version / "events.jsonl"
    told = len(read_events(events))
    time.sleep(1.5)
    assert len(read_events(events)) > told, "the training went on without a server"
    server = Process(bundle, project, port=port)
    # The same cookie: the visitor notices nothing.
    with Client(port, cookies=client.cookies) as again:
        found = again.state()
        assert found["pictures"] == sum(MANY.values())
        assert found["training"]["version"] == version
        assert found["training"]["state"] == "training"
        assert found["training"]["epoch"] >= before["epoch"]
        again.ask("train/stop")
        stopped = again.wait(lambda state: state["training"]["state"] == "stopped")
        assert [one["id"] for one in stopped["versions"]] == [version]
        server.end()
    assert [line["event"] for line in read_events(events)][-1] == "ended"


def test_a_training_that_is_killed_is_said_and_goes_on(
    bundle: Path, many: Path, project: Path
) -> None:
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().teach(many)
        client.ask("train", epochs=LONG)
        client.wait(lambda state: state["training"]["epoch"] > 2)
        child = json.loads((project / "studio.json").read_text())["training"]
        os.kill(child["pid"], signal.SIGKILL)
        found = client.wait(lambda state: state["training"]["state"] != "training")["training"]
        assert found["state"] == "stopped"
        assert "can go on" in found["message"]
        client.ask("train/go-on")
        client.wait(lambda state: state["training"]["epoch"] > found["epoch"])
        client.ask("train/stop")
        client.wait(lambda state: state["training"]["state"] == "stopped")


def test_a_training_that_ended_without_a_server_is_a_version(
    bundle: Path, photos: Path, project: Path
) -> None:
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().teach(photos)
        version = client.ask("train", epochs=3)["id"]
    until = time.monotonic() + 60
    events = project / "versions" / version / "events.jsonl"
    while not any(line["event"] == "ended" for line in read_events(events)):
        assert time.monotonic() < until
        time.sleep(0.1)
    with served(bundle, project) as server, Client(server.port) as client:
        found = client.opened().wait(lambda state: state["training"]["state"] == "finished")
        assert [one["id"] for one in found["versions"]] == [version]
        assert found["versions"][0]["accuracy"] is not None


def test_another_process_of_the_same_number_is_not_ours(
    bundle: Path, photos: Path, project: Path
) -> None:
    """After a restart of the board numbers begin anew."""
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().teach(photos)
        client.ask("train", epochs=1)
        client.wait(lambda state: state["training"]["state"] == "finished")
    file = project / "studio.json"
    document = json.loads(file.read_text())
    document["training"]["pid"] = os.getpid()
    file.write_text(json.dumps(document))
    with served(bundle, project) as server, Client(server.port) as client:
        assert client.opened().state()["training"]["state"] == "finished"
        client.ask("train/stop", 409)


def test_nothing_is_computed_twice(bundle: Path, photos: Path, project: Path) -> None:
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().teach(photos)
    manifest = open_bundle(bundle).manifest
    kept = project / f"embeddings-{manifest.id[:16]}.bin"
    record = HEAD + 4 * CHANNELS
    assert kept.stat().st_size == sum(COUNTS.values()) * record
    content = kept.read_bytes()
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().wait(lambda state: state["teaching"]["state"] == "ready")
    assert kept.read_bytes() == content
    # A power cut tears the last record, and a bad card changes a bit: both are computed again.
    kept.write_bytes(content[: 5 * record] + bytes([content[5 * record] ^ 1]) + content[-7:])
    with served(bundle, project) as server, Client(server.port) as client:
        client.opened().wait(lambda state: state["teaching"]["state"] == "ready")
    assert sorted(_records(kept, record)) == sorted(_records_of(content, record))


def test_one_project_has_one_server(bundle: Path, project: Path) -> None:
    with served(bundle, project), pytest.raises(UsageError, match="another studio"):
        Project(project)


def _records(path: Path, size: int) -> list[bytes]:
    return _records_of(path.read_bytes(), size)


def _records_of(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]
