"""What a camera feeds is killed: `capture` after each of its calls, `train --camera` at any moment,
and a studio's server and training. The same command goes on, and no picture is torn.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import InUse
from mobiletl.device.pictures.dataset import files_below
from runtime_tests.attacks.arena import Arena, cases, said
from runtime_tests.attacks.harness import KILL, KILLED, TEAR, Fault
from runtime_tests.attacks.runs import fresh
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.scenes import write_scenes
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

WHOLE = (pytest.mark.slow, pytest.mark.long)
CLASSES, EACH = ("ant", "bee"), 4
# Of the fast tier: every so many calls.
EVERY = 6
# A command of two processes takes about so long, undisturbed.
WHILE_S = 4.0
MOST_TRIES = 60
# A thousand epochs are the most that a page may ask for; so many pictures make them last.
EACH_OF_STUDIO, EPOCHS = 60, 1000


def taking(folder: Path) -> list[str]:
    flags = ["--camera", str(folder.parent / "camera"), "--data", str(folder / "photos")]
    return [*flags, "--classes", ",".join(CLASSES)]


def wrong_with(photos: Path, kills: int) -> str:
    """Say what is wrong with pictures that were taken; each kill may have cost one its line."""
    pictures = [path for name in CLASSES for path in files_below(photos / name)]
    counts = [len(files_below(photos / name)) for name in CLASSES]
    if counts != [EACH] * len(CLASSES):
        return f"pictures of each class: {counts}"
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
    hidden = [path.name for name in CLASSES for path in (photos / name).glob(".*")]
    if hidden:
        return f"left {hidden}"
    told = set()
    for line in (photos / ".mobiletl" / "provenance.jsonl").read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            told.add(json.loads(line)["file"])
    missing = [path for path in pictures if path.relative_to(photos).as_posix() not in told]
    return f"no line tells of {missing}" if len(missing) > kills else ""


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=WHOLE)])
def test_capture_killed_after_a_call(arena: Arena, whole: bool, drawn: random.Random) -> None:
    write_scenes(arena.folder / "camera", list(range(12)))
    folder = fresh(arena.folder / "taken")
    argv = ["capture", *taking(folder), "--count", str(EACH)]
    undisturbed = arena.worker.run(argv, Fault(folder))
    assert undisturbed.code == 0, undisturbed.err
    calls = undisturbed.calls
    assert wrong_with(folder / "photos", 0) == ""
    tried = [(KILL, at) for at in range(1, len(calls) + 1)]
    tried += [(TEAR, at) for at, call in enumerate(calls, 1) if call.startswith("write")]
    if not whole:
        tried = tried[drawn.randrange(EVERY) :: EVERY]
    problems = []
    for mode, at in tried:
        fresh(folder)
        killed = arena.worker.run(argv, Fault(folder, mode, at))
        assert killed.code == KILLED, killed.err
        again = arena.worker.run(argv, Fault(folder))
        found = wrong_with(folder / "photos", 1) if again.code == 0 else again.err[-200:]
        problems.append(said(f"{mode} at {at} {killed.calls[-1]}: {found}" if found else ""))
    print(f"capture: {len(tried)} kills, {len(calls)} calls")
    assert [problem for problem in problems if problem] == []


@pytest.mark.slow
@pytest.mark.long
def test_train_by_camera_killed_again_and_again(tmp_path: Path, drawn: random.Random) -> None:
    """Both processes at once, as by a power cut, or the one that was started alone."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    write_scenes(tmp_path / "camera", list(range(12)))
    kills = 0
    while kills < cases(60):
        folder = fresh(tmp_path / "run by camera")
        command = [sys.executable, "-m", "mobiletl.device.train_on_board", *taking(folder)]
        command += ["--bundle", str(bundle), "--out", str(folder / "run"), "--threads", "1"]
        command += ["--per-class", str(EACH), "--epochs", "60", "--save-budget", "none"]
        chain = 0
        for _ in range(MOST_TRIES):
            both = drawn.random() < 0.5
            code, text = ended_or_killed(command, drawn.uniform(0.3, WHILE_S), both)
            if code == 0:
                break
            assert code in (KILLED, InUse.exit_code), text
            chain += code == KILLED
        assert code == 0, text
        assert wrong_with(folder / "photos", chain) == ""
        _, info = load_state(folder / "run" / "state.safetensors", open_bundle(bundle).manifest)
        assert info.class_names == CLASSES
        kills += chain
    print(f"train --camera: {kills} kills at random")


def ended_or_killed(command: list[str], after_s: float, both: bool) -> tuple[int, str]:
    """Run a command and kill it at its time, with its children or without."""
    started = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        return started.wait(after_s), (started.stderr.read() if started.stderr else "")
    except subprocess.TimeoutExpired:
        if both:
            os.killpg(started.pid, signal.SIGKILL)
        else:
            started.kill()
        return started.wait(), ""
    finally:
        if started.stderr is not None:
            started.stderr.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A studio's project whose training ends with the test."""
    yield tmp_path / "project"
    with contextlib.suppress(FileNotFoundError, TypeError):
        kill_training(tmp_path / "project")


@pytest.fixture
def servers() -> Iterator[list[Any]]:
    """Servers of the test, which end with it."""
    started: list[Any] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.kill()


def kill_training(project: Path) -> None:
    """Kill the process that trains, unless it has just ended."""
    document = json.loads((project / "studio.json").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(document["training"]["pid"]), signal.SIGKILL)


def further(epoch: int, state: Mapping[str, Any]) -> bool:
    """Whether the training has come further than so many epochs, or to its end."""
    training = state["training"]
    return bool(training["epoch"] > epoch or training["state"] == "finished")


def told(ended: bool, state: Mapping[str, Any]) -> bool:
    """Whether the page knows of a training that goes on, or of one that has `ended`."""
    return (state["training"]["state"] in ("stopped", "finished")) or not ended


@pytest.mark.slow
@pytest.mark.long
def test_a_studio_killed_again_and_again(
    tmp_path: Path, project: Path, servers: list[Any], drawn: random.Random
) -> None:
    """The server, its training, or both."""
    for package in ("httpx", "starlette", "uvicorn"):
        pytest.importorskip(package)
    from runtime_tests.support.board.studio_service import Client, Process, free_port

    bundle = write_tiny_bundle(tmp_path / "bundle")
    photos = write_pictures(tmp_path / "photos", {"red": EACH_OF_STUDIO, "green": EACH_OF_STUDIO})
    port, kills, versions = free_port(), 0, []
    servers.append(Process(bundle, project, port=port))
    with Client(port) as client:
        client.opened().teach(photos)
        while kills < cases(40):
            versions.append(client.ask("train", epochs=EPOCHS)["id"])
            epoch, state = 0, ""
            while state != "finished":
                client.wait(partial(further, epoch))
                time.sleep(drawn.uniform(0, 1.5))
                victim = drawn.choice(["server", "training", "both"])
                if victim != "server":
                    kill_training(project)
                if victim != "training":
                    servers[-1].kill()
                    servers.append(Process(bundle, project, port=port))
                kills += 1
                found = client.wait(partial(told, victim != "server"))
                training = found["training"]
                assert found["pictures"] == 2 * EACH_OF_STUDIO
                assert training["version"] == versions[-1]
                assert training["epoch"] >= epoch, "what was trained is lost"
                epoch, state = training["epoch"], training["state"]
                if state == "stopped":
                    client.ask("train/go-on")
    servers[-1].end()
    states = [project / "versions" / version / "state.safetensors" for version in versions]
    names = [load_state(state, open_bundle(bundle).manifest)[1].class_names for state in states]
    assert names == [("green", "red")] * len(versions)
    print(f"studio: {kills} kills of {len(versions)} trainings")
