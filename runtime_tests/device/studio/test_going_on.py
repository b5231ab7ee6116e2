"""A training goes on with the pictures it began with, or says why it cannot; and how it ended."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

from PIL import Image  # noqa: E402

from mobiletl.device.studio import processes  # noqa: E402
from mobiletl.device.studio.begun_with import FILE, BegunWith, begun_with  # noqa: E402
from mobiletl.device.studio.endings import ending_of  # noqa: E402
from mobiletl.device.studio.project import Project  # noqa: E402
from runtime_tests.support.board.picture_folders import write_pictures  # noqa: E402
from runtime_tests.support.board.studio_service import Client, served  # noqa: E402
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402

LONG, MANY = 1000, {"red": 30, "green": 30}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose training ends with the test."""
    folder = tmp_path / "project"
    yield folder
    child = Project(folder).kept.training
    if child is not None and processes.runs(child):
        os.kill(child.pid, signal.SIGKILL)


@pytest.fixture
def client(tmp_path: Path, project: Path) -> Iterator[Client]:
    """One whose training is stopped."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", MANY)
    with served(bundle, project) as server, Client(server.port) as found:
        found.opened().teach(photos)
        begin(found)
        found.ask("train/stop")
        stopped = ended(found)
        assert (stopped["state"], stopped["message"]) == ("stopped", "")
        assert stopped["cannot_go_on"] == ""
        yield found


def begin(client: Client) -> None:
    client.ask("train", epochs=LONG)
    client.wait(lambda state: state["training"]["epoch"] > 2)


def ended(client: Client) -> Any:
    under_way = ("starting", "training", "stopping")
    found = client.wait(lambda state: state["training"]["state"] not in under_way)
    return found["training"]


def picture(shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 18), (shade, 100, 200)).save(out, "PNG")
    return out.getvalue()


def one_of(client: Client, name: str) -> str:
    listed = client.get("/api/pictures", params={"class": name}).json()
    return str(listed["pictures"][0]["id"])


CHANGES: tuple[tuple[Callable[[Client], Any], str], ...] = (
    (lambda client: client.add("red", picture()), "'red' had 30 and has 31"),
    (
        lambda client: client.ask("pictures/delete", ids=[one_of(client, "red")]),
        "'red' had 30 and has 29",
    ),
    (
        lambda client: client.ask("pictures/move", ids=[one_of(client, "red")], to="green"),
        "'green' had 30 and has 31, 'red' had 30 and has 29",
    ),
    (
        lambda client: client.ask("classes/rename", name="red", to="rot"),
        "class 'red' is gone, class 'rot' is new",
    ),
    (lambda client: client.ask("classes", name="cup"), "class 'cup' has no picture"),
)


def test_it_goes_on_only_with_the_pictures_that_it_began_with(client: Client) -> None:
    for change, words in CHANGES:
        change(client)
        refused = client.ask("train/go-on", 409)["error"]
        assert words in refused
        stopped = client.state()["training"]
        assert (stopped["state"], stopped["cannot_go_on"]) == ("stopped", refused)
        # Back as it was, it could go on.
        if "cup" in words:
            client.ask("classes/delete", name="cup")
        elif "rot" in words:
            client.ask("classes/rename", name="rot", to="red")
        elif "31, " in words:
            client.ask("pictures/move", ids=[one_of(client, "green")], to="red")
        elif "31" in words:
            client.ask("pictures/delete", ids=[one_of(client, "red")])
        else:
            client.add("red", (client_photos(client) / one_missing(client)).read_bytes())
        assert client.state()["training"]["cannot_go_on"] == ""
    client.ask("train/go-on")
    client.wait(lambda state: state["training"]["epoch"] > stopped["epoch"] + 1)
    client.ask("train/stop")
    assert ended(client)["state"] == "stopped"


def client_photos(client: Client) -> Path:
    return Path(client.state()["project"]).parent / "photos" / "red"


def one_missing(client: Client) -> str:
    """The file of which no picture is there any more."""
    import hashlib

    listed = client.get("/api/pictures?limit=500").json()["pictures"]
    there = {one["id"] for one in listed}
    (name,) = (
        path.name
        for path in client_photos(client).iterdir()
        if hashlib.sha256(path.read_bytes()).hexdigest()[:16] not in there
    )
    return name


def test_what_the_process_itself_refuses_is_its_own_line(client: Client, project: Path) -> None:
    """Where nobody kept what it began with, as in a project of an earlier version."""
    (file,) = project.glob(f"versions/*/{FILE}")
    file.unlink()
    client.add("red", picture())
    client.ask("train/go-on")
    found = ended(client)
    assert found["state"] == "failed"
    assert "was started otherwise: the pictures" in found["message"]
    assert "exit code 2: A flag or an argument that makes no sense" in found["message"]
    assert "killed" not in found["message"]


def test_a_training_that_is_killed_says_by_what(client: Client, project: Path) -> None:
    client.ask("train/go-on")
    child = json.loads((project / "studio.json").read_text())["training"]
    client.wait(lambda state: state["training"]["state"] == "training")
    os.kill(child["pid"], signal.SIGKILL)
    found = ended(client)
    assert found["state"] == "stopped"
    assert "killed (SIGKILL, as the system does where memory is short)" in found["message"]
    assert "can go on from where it last saved" in found["message"]


@pytest.mark.parametrize(
    ("code", "asked", "said", "failed", "words"),
    [
        (-9, False, "epoch 3", False, "killed (SIGKILL"),
        (-9, True, "epoch 3", False, ""),
        (130, False, "mobiletl: stopped, the state is saved", False, ""),
        (6, False, "mobiletl: the disk is full", True, "the disk is full (exit code 6: A file"),
        (1, False, "MemoryError", True, "MemoryError (exit code 1: A bug of ours"),
        (99, False, "", True, "exit code 99"),
        (None, False, "mobiletl: the disk is full", True, "the disk is full"),
        (None, False, "epoch 3", False, "the training was killed"),
        (-100, False, "", False, "killed (signal 100)"),
    ],
)
def test_how_a_process_ended(
    tmp_path: Path, code: int | None, asked: bool, said: str, failed: bool, words: str
) -> None:
    log = tmp_path / "train.log"
    log.write_text(f"begins\n{said}\n" if said else "")
    found = ending_of(code, asked, log)
    assert found.failed == failed
    assert found.words.startswith(words) if not words else words in found.words
    assert found.asked == (not words)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 1, "classes": {}}'])
def test_a_damaged_record_of_the_pictures_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert begun_with(tmp_path) is None


def test_a_record_of_the_pictures_is_read_as_it_was_kept(tmp_path: Path) -> None:
    began = BegunWith.of({"0" * 16: "a\u00e9\ud800", "1" * 16: "b", "2" * 16: "b"})
    began.keep(tmp_path)
    assert begun_with(tmp_path) == began
    others = BegunWith.of({"3" * 16: "a\u00e9\ud800", "1" * 16: "b", "2" * 16: "b"})
    assert "others in their place" in others.problem(began)
    assert began.problem(began) == ""
