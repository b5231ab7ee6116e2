"""`train --camera` and `teach --camera`: pictures are taken class by class, then learned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from mobiletl.device import train_on_board
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.bundle.view import View
from mobiletl.device.commands.table import main as mobiletl
from mobiletl.device.pictures.dataset import files_below
from runtime_tests.support.board.mjpeg_server import MjpegServer
from runtime_tests.support.board.scenes import write_scenes
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

terminals = pytest.importorskip("runtime_tests.support.board.terminals")  # POSIX
DEVICE = Path(train_on_board.__file__).parent


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "camera", list(range(60)))


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: Any) -> Iterator[None]:
    """Whoever runs the tests may sit at one."""
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


def words(bundle: Path, camera: Path, *more: str) -> list[str]:
    return ["--bundle", str(bundle), "--camera", str(camera), "--classes", "cat,dog,none", *more]


def test_takes_pictures_then_trains_and_a_second_call_adds(
    bundle: Path, camera: Path, tmp_path: Path, capfd: Any
) -> None:
    data, run = tmp_path / "photos", tmp_path / "run"
    given = ["--data", str(data), "--epochs", "1", "--threads", "1", "--rotate", "90", "--json"]
    flags = words(bundle, camera, *given, "--per-class", "5", "--out", str(run))
    assert mobiletl(["train", *flags]) == 0
    out, shown = capfd.readouterr()
    assert json.loads(out)["pictures"] == {"train": 12, "val": 3}
    assert "dog: 5 of 5 pictures" in shown
    _, info = load_state(run / "state.safetensors", open_bundle(bundle).manifest)
    assert info.class_names == ("cat", "dog", "none")
    assert info.view == View(90)
    flags = words(bundle, camera, *given, "--per-class", "7", "--out", str(tmp_path / "second"))
    assert mobiletl(["train", *flags]) == 0
    assert json.loads(capfd.readouterr().out)["pictures"] == {"train": 18, "val": 3}


def test_the_folder_has_the_date_by_default(
    bundle: Path, camera: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    given = words(bundle, camera, "--per-class", "3", "--out", "run")
    assert mobiletl(["teach", *given]) == 0
    (data,) = tmp_path.glob("photos-2*")
    assert {path.name for path in data.iterdir()} == {".mobiletl", "cat", "dog", "none"}
    assert (tmp_path / "run" / "state.safetensors").is_file()


def test_a_copied_folder_does_so_too(bundle: Path, camera: Path) -> None:
    shutil.copytree(DEVICE, bundle / "device", ignore=shutil.ignore_patterns("__pycache__"))
    script = [sys.executable, "device/train_on_board.py", "--camera", str(camera)]
    script += ["--classes", "cat,dog", "--per-class", "4", "--data", "photos", "--epochs", "1"]
    done = subprocess.run(
        script,
        cwd=bundle,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(files_below(bundle / "photos" / "dog")) == 4


def test_a_person_begins_each_class_by_a_key(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    data = tmp_path / "photos"
    with MjpegServer("--password", "secret") as server:
        address = server.address.replace("http://", "http://user:secret@")
        given = ["--bundle", str(bundle), "--camera", address, "--classes", "cat,dog,none"]
        given += ["--data", str(data), "--per-class", "4", "--epochs", "1", "--threads", "1"]
        one = terminals.Typed("train", *given, "--out", str(tmp_path / "run"))
        one.wait_for("class 1 of 3, cat: show it, then press space")
        one.type(" ")
        one.wait_for("cat: 4 of 4 pictures")
        one.wait_for("class 2 of 3, dog")
        one.type("s")
        one.wait_for("dog: 0 of 4 pictures")
        one.wait_for("class 3 of 3, none")
        one.type("q")
        assert one.end() == 130
        assert "photos has 4 pictures, and" in one.text
        assert one.settings() == one.before
        one.close()
        with_countdown = terminals.Typed("train", *given, "--out", str(tmp_path / "run"), "--yes")
        assert with_countdown.end() == 0, with_countdown.text[-500:]
        with_countdown.close()
    assert [len(files_below(data / name)) for name in ("cat", "dog", "none")] == [4, 4, 4]
    assert (tmp_path / "run" / "state.safetensors").is_file()
    assert "secret" not in (data / ".mobiletl" / "provenance.jsonl").read_text()
    assert "secret" not in one.text + with_countdown.text


def test_ctrl_c_at_the_terminal_stops_before_training(
    bundle: Path, camera: Path, tmp_path: Path
) -> None:
    data = tmp_path / "photos"
    given = words(bundle, camera, "--data", str(data), "--out", str(tmp_path / "run"))
    one = terminals.Typed("train", *given, "--camera-rate", "2")
    one.wait_for("cat 1/40")
    one.type("\x03")
    assert one.end() == 130
    assert "photos has " in one.text
    assert "the same command goes on with them" in one.text
    assert "Traceback" not in one.text
    assert one.settings() == one.before
    one.close()


@pytest.mark.parametrize("command", ["train", "teach"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "no pictures named; give a folder with --data, or --camera"),
        (["--data", "d", "--classes", "a,b"], "--classes is of a camera"),
        (["--data", "d", "--per-class", "4"], "--per-class is of a camera"),
        (["--data", "d", "--rotate", "90"], "--rotate is of a camera"),
        (["--camera", "0"], "name two or more, --classes cat,dog"),
        (["--camera", "0", "--classes", "cat"], "expected two or more"),
        (["--camera", "0", "--classes", "cat,a/b"], "has / in it"),
        (["--camera", "0", "--classes", "a,b", "--per-class", "1"], "--per-class is 1"),
    ],
)
def test_flags_that_make_no_sense(
    bundle: Path, command: str, flags: list[str], said: str, capsys: Any
) -> None:
    assert mobiletl([command, "--bundle", str(bundle), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_resumed_run_takes_no_camera(bundle: Path, camera: Path, capsys: Any) -> None:
    assert mobiletl(["train", *words(bundle, camera, "--resume", "runs/first")]) == 2
    assert "so it takes no --camera" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_told_before_pictures_are_taken(
    camera: Path, tmp_path: Path, capsys: Any
) -> None:
    data = tmp_path / "photos"
    assert mobiletl(["train", *words(tmp_path, camera, "--data", str(data))]) == 4
    assert "is not a bundle" in capsys.readouterr().err
    assert not data.exists()
