"""`mobiletl capture` as a person runs it: with keys, without a terminal, again, until it hurts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.capturing import guided
from mobiletl.device.commands.table import main as mobiletl
from mobiletl.device.pictures.dataset import files_below, open_dataset
from runtime_tests.support.board.scenes import write_scenes

terminals = pytest.importorskip("runtime_tests.support.board.terminals")  # POSIX


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "camera", list(range(60)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def words(camera: Path, data: Path, *more: str) -> list[str]:
    return ["capture", "--camera", str(camera), "--data", str(data), *more]


def counts(data: Path) -> dict[str, int]:
    found = {path.name: len(files_below(path)) for path in data.iterdir()}
    return {name: count for name, count in found.items() if not name.startswith(".")}


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


@pytest.fixture
def typed() -> Iterator[Any]:
    open_ones = []

    def start(*given: str) -> Any:
        open_ones.append(terminals.Typed(*given))
        return open_ones[-1]

    yield start
    for one in open_ones:
        one.close()


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: Any) -> Iterator[None]:
    """Whoever runs the tests may sit at one."""
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


def test_records_until_the_count_and_goes_on(camera: Path, data: Path, capsys: Any) -> None:
    assert mobiletl(words(camera, data, "--class", "cat", "--count", "5", "--json")) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["classes"] == {"cat": 5}
    assert first["kept"] == 5
    assert mobiletl(words(camera, data, "--classes", "cat,dog", "--per-class", "8")) == 0
    text = capsys.readouterr().out
    assert counts(data) == {"cat": 8, "dog": 8}
    # The camera begins anew: what the first call has kept is not kept again.
    assert "11 of 16 frames kept" in text
    dataset = open_dataset(data, 0.25, 0)
    assert (dataset.class_names, dataset.skipped) == (("cat", "dog"), ())
    assert mobiletl(words(camera, data, "--classes", "cat,dog", "--count", "8")) == 0
    assert "each class has 8 pictures already" in capsys.readouterr().err
    lines = (data / ".mobiletl" / "provenance.jsonl").read_text().splitlines()
    assert len(lines) == 16
    row = json.loads(lines[7])
    assert row["camera"] == str(camera)
    assert row["view"] == {"rotate": 0, "region": [0.0, 0.0, 1.0, 1.0]}
    assert row["sharpness"] > 0.32
    assert row["difference"] > 0.45


def test_blurred_still_and_black_frames_are_not_kept(tmp_path: Path, data: Path) -> None:
    camera = write_scenes(tmp_path / "camera", [1, 2, 3])
    write_scenes(camera, [4, 5, 6, 7], first=10, blur=2.5)
    write_scenes(camera, [3, 3, 3, 2], first=20)
    Image.new("RGB", (96, 72), (2, 2, 2)).save(camera / "0030.png")
    write_scenes(camera, [8], first=40)
    assert mobiletl(words(camera, data, "--class", "cat")) == 0
    assert counts(data) == {"cat": 4}
    everything = ["--min-sharpness", "0", "--min-difference", "0"]
    assert mobiletl(words(camera, data, "--class", "dog", *everything)) == 0
    assert counts(data)["dog"] == 3 + 4 + 4 + 1


@pytest.mark.parametrize(
    ("brightness", "said"),
    [((2, 2, 2), "of 12 frames 12 were black"), ((90, 90, 90), "12 not sharp")],
)
def test_nothing_that_could_be_kept_is_no_success(
    tmp_path: Path, data: Path, brightness: tuple[int, int, int], said: str, capsys: Any
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    for number in range(12):
        Image.new("RGB", (96, 72), brightness).save(camera / f"{number:02}.png")
    assert mobiletl(words(camera, data, "--class", "cat")) == 3
    printed = capsys.readouterr().err
    assert said in printed.splitlines()[-1]
    assert printed.count("are black") == (brightness == (2, 2, 2))
    # Beside others they are counted.
    write_scenes(camera, [8], first=40)
    assert mobiletl(words(camera, data, "--class", "cat", "--per-class", "5", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kept"], found["black"]) == (1, 12 * (brightness == (2, 2, 2)))


def test_pictures_are_what_the_view_shows_and_another_is_refused(
    camera: Path, data: Path, capsys: Any
) -> None:
    given = ["--class", "cat", "--rotate", "90", "--roi", "0,0,1,0.5", "--count"]
    assert mobiletl(words(camera, data, *given, "3")) == 0
    # Said once is enough.
    assert mobiletl(words(camera, data, "--class", "cat", "--count", "6")) == 0
    assert {size(path) for path in files_below(data / "cat")} == {(72, 48)}
    capsys.readouterr()
    assert mobiletl(words(camera, data, "--class", "cat", "--rotate", "180", "--count", "9")) == 2
    assert "--rotate 90" in capsys.readouterr().err
    assert counts(data) == {"cat": 6}


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--class", "../cat"], 2, "begins with a dot"),
        (["--classes", "cat,Cat"], 2, "differs only by case"),
        (["--classes", "cat,cat"], 2, "named twice"),
        (["--class", "val"], 2, "part of a data set"),
        (["--class", "cat", "--per-class", "-1"], 2, "--per-class is -1"),
        (["--class", "cat", "--count", "0"], 2, "has no end"),
        (["--class", "cat", "--max-mb", "0"], 2, "--max-mb is 0"),
        (["--class", "cat", "--min-difference", "3"], 2, "--min-difference is 3"),
        (["--class", "cat", "--max-mb", "0.002"], 6, "raise --max-mb"),
        (["--class", "cat", "--camera", "/dev/video97"], 13, "/dev/video97"),
        (["--class", "cat", "--camera", "nothing there"], 2, "--camera nothing there is none of"),
    ],
)
def test_bad_input_is_one_line(
    camera: Path, data: Path, flags: list[str], code: int, said: str, capsys: Any
) -> None:
    if code == 13:
        pytest.importorskip("cv2")
    assert mobiletl(words(camera, data, *flags)) == code
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("mobiletl: ")


def test_a_scene_that_never_changes_ends_it(
    tmp_path: Path, data: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(guided, "PATIENCE_S", 0.5)
    monkeypatch.setattr(guided, "HINT_S", 0.1)
    camera = write_scenes(tmp_path / "camera", [1] * 4000)
    assert mobiletl(words(camera, data, "--class", "cat")) == 0
    shown = capsys.readouterr().err
    assert "cat: like a kept one: turn it" in shown
    assert "nothing was kept for 0.5 seconds" in shown
    assert counts(data) == {"cat": 1}


def test_seconds_end_it(tmp_path: Path, data: Path) -> None:
    camera = write_scenes(tmp_path / "camera", [1] * 4000)
    began = time.monotonic()
    assert mobiletl(words(camera, data, "--class", "cat", "--seconds", "1")) == 0
    assert time.monotonic() - began < 30


def test_keys_choose_and_the_space_bar_records(camera: Path, data: Path, typed: Any) -> None:
    one = typed(*words(camera, data, "--classes", "cat,dog", "--count", "6"))
    one.wait_for("hold space to record cat")
    assert one.settings() != one.before
    one.type("2")
    one.wait_for("hold space to record dog")
    one.wait_for("dog has its 6 pictures", hold=" ")
    assert counts(data) == {"dog": 6}
    one.type("\t")
    one.wait_for("cat has its 6 pictures", hold=" ")
    assert one.end() == 0
    assert counts(data) == {"cat": 6, "dog": 6}
    assert one.settings() == one.before
    assert "cat 6/6  dog 6/6" in one.text or "12 of" in one.text


def test_letting_go_stops_recording_and_q_ends(tmp_path: Path, data: Path, typed: Any) -> None:
    camera = write_scenes(tmp_path / "camera", list(range(8)) * 1000)
    one = typed(*words(camera, data, "--class", "cat", "--count", "0"))
    one.wait_for("hold space to record cat")
    one.type(" ")
    one.wait_for("recording cat")
    one.wait_for("hold space to record cat")
    assert 0 < counts(data)["cat"] <= 8
    one.type("q")
    assert one.end() == 0
    assert one.settings() == one.before


@pytest.mark.usefixtures("heard_signals")
def test_ctrl_c_in_the_middle_keeps_what_there_is(tmp_path: Path, data: Path, typed: Any) -> None:
    camera = write_scenes(tmp_path / "camera", list(range(9)) * 1000)
    one = typed(*words(camera, data, "--class", "cat", "--count", "0"))
    one.wait_for("recording cat", hold=" ")
    one.type("\x03")
    assert one.end() == 130
    assert "the same command goes on with them" in one.text
    assert "Traceback" not in one.text
    assert one.settings() == one.before
    for path in files_below(data / "cat"):
        assert size(path) == (96, 72)
    assert [p for p in (data / "cat").iterdir() if p.name.startswith(".")] == []


@pytest.mark.usefixtures("heard_signals")
def test_a_service_is_stopped_by_its_signal(tmp_path: Path, data: Path) -> None:
    camera = write_scenes(tmp_path / "camera", [1] * 4000)
    script = "import sys; from mobiletl.device.commands.table import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *words(camera, data, "--class", "cat")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not list(data.glob("cat/*.jpg")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "photos has 1 picture, and the same command" in said


def test_a_video_file(tmp_path: Path, data: Path, capsys: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 72))
    noise = np.random.default_rng(0)
    for seed in [0] * 10 + [1] * 10 + [2] * 10:
        scene = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
        frame = np.kron(scene, np.ones((8, 8, 1))) + noise.normal(0, 3, (72, 96, 3))
        writer.write(np.clip(frame, 0, 255).astype(np.uint8))
    writer.release()
    assert mobiletl(words(path, data, "--class", "cat", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 3
