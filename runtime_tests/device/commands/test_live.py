"""`mobiletl predict --camera`, from flags to exit code: folders, videos, a network camera."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobiletl.device import predict, train_on_board
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state, save_state
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras import stream as cameras
from mobiletl.device.commands import live
from mobiletl.device.printable import printable
from mobiletl.device.run.stop import StopFlag
from runtime_tests.support.board.mjpeg_server import MjpegServer
from runtime_tests.support.board.mosquitto import Mosquitto, needs_mosquitto
from runtime_tests.support.board.picture_folders import COLOURS, write_pictures
from runtime_tests.support.board.signals import signals_arrive
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Capture = pytest.CaptureFixture[str]
SUMMARY = re.compile(
    r"mobiletl: (\d+) frames in [\d.]+ s, [\d.]+ frames/s, (\d+) changes, "
    r"\d+% of a frame's time is not the network"
)


class Trained:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = write_tiny_bundle(folder / "bundle")
        self.photos = write_pictures(folder / "photos", {"ant": 8, "bee": 8, "cat": 8})
        self.state = folder / "run" / "state.safetensors"
        given = ["--bundle", str(self.bundle), "--data", str(self.photos), "--epochs", "12"]
        given += ["--out", str(folder / "run"), "--no-augment", "--runtime", "fake"]
        assert train_on_board.main(given) == 0

    def words(self, *more: str) -> list[str]:
        given = ["--bundle", str(self.bundle), "--state", str(self.state)]
        return [*given, "--runtime", "fake", *more]

    def predict(self, *more: str) -> int:
        return predict.main(self.words(*more))

    def process(self, *more: str, **settings: Any) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "mobiletl.device.predict", *self.words(*more)]
        given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, text=True, **{**given, **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def answers(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["event"] == "answer"]


def video(path: Path, *colours: tuple[int, int, int], frames: int = 30) -> Path:
    """Write so many frames of each colour."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for colour in colours:
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    writer.release()
    return path


def test_a_folder_is_played_and_its_end_is_no_error(trained: Trained, capsys: Capture) -> None:
    assert trained.predict("--camera", str(trained.photos / "bee")) == 0
    text, shown = capsys.readouterr()
    (line,) = text.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  bee [\d.]+%", line)
    found = SUMMARY.fullmatch(shown.strip())
    assert found is not None
    assert found.groups() == ("8", "0")


def test_black_frames_of_a_video_are_told_once(
    trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    black = video(tmp_path / "black.avi", (0, 0, 0))
    assert trained.predict("--camera", str(black), "--json") == 0
    text, shown = capsys.readouterr()
    assert shown.count("the frames of") == shown.count("black.avi are black") == 1
    ended = json.loads(text.splitlines()[-1])
    assert (ended["event"], ended["frames"], ended["dropped"], ended["losses"]) == (
        "ended",
        30,
        0,
        0,
    )


def test_every_frame_as_json_says_what_predict_says_of_the_picture(
    trained: Trained, capsys: Capture
) -> None:
    folder = trained.photos / "cat"
    assert trained.predict("--json", "--every", "0", "--camera", str(folder)) == 0
    live = capsys.readouterr().out
    lines = [json.loads(line) for line in live.splitlines()]
    assert trained.predict("--json", str(folder)) == 0
    files = json.loads(capsys.readouterr().out)["predictions"]
    assert [line["event"] for line in lines] == ["answer"] * 8 + ["ended"]
    assert [line["frame"] for line in lines[:-1]] == list(range(1, 9))
    for line, file in zip(lines, files):
        best = file["labels"][0]
        assert line["this_frame"]["label"] == best["label"]
        assert line["this_frame"]["probability"] == pytest.approx(best["probability"], abs=1e-5)
        assert line["this_frame"]["unknown"] == file["unknown"]
        assert line["this_frame"]["score"] == file["score"]
    end = lines[-1]
    assert (end["frames"], end["unreadable"], end["changes"]) == (8, 0, 0)
    assert 0 <= end["network_seconds"] <= end["seconds"]


def test_frames_and_seconds_end_it(trained: Trained, capsys: Capture) -> None:
    assert trained.predict("--camera", str(trained.photos), "--frames", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 3
    given = ["--camera", str(trained.photos), "--camera-rate", "5", "--seconds", "1", "--json"]
    assert trained.predict(*given) == 0
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 1 <= end["seconds"] < 3
    assert 3 <= end["frames"] < 12


def test_a_change_is_announced_once_and_a_moment_is_not(trained: Trained, capsys: Capture) -> None:
    folder = trained.folder / "changing"
    folder.mkdir(exist_ok=True)
    # At 20 a second: 1 s of one class, 0.1 s of another, 0.5 s of the first, 2 s of a third.
    for place in range(72):
        name = "cat" if 20 <= place < 22 else "ant" if place < 32 else "bee"
        target = trained.photos / name / f"{place % 8:03}.png"
        (folder / f"{place:03}.png").symlink_to(target)
    given = ["--json", "--camera", str(folder), "--camera-rate", "20"]
    assert trained.predict(*given) == 0
    found = answers(capsys.readouterr().out)
    assert [line["label"] for line in found] == ["ant", "bee"]
    assert 32 < found[1]["frame"] < 60


def test_a_video_that_ends(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    file = video(tmp_path / "bee.avi", COLOURS[1])
    assert trained.predict("--json", "--camera", str(file)) == 0
    text, shown = capsys.readouterr()
    assert [line["label"] for line in answers(text)] == ["bee"]
    assert json.loads(text.splitlines()[-1])["frames"] == 30
    assert SUMMARY.search(shown)


def test_a_network_camera_that_comes_back(trained: Trained) -> None:
    pytest.importorskip("cv2")
    with MjpegServer() as server:
        given = ("--json", "--every", "0", "--camera", server.address)
        with trained.process(*given) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            server.kill()
            lost = _next(process, "note")
            server.start()
            back = _next(process, "note")
            after = _next(process, "answer")
            process.terminate()
            end = _next(process, "ended")
    assert first["frame"] == 1
    assert "tried again" in lost["text"]
    assert "is back after" in back["text"]
    assert after["frame"] > 1
    assert end["frames"] >= after["frame"]
    assert end["losses"] == 1
    assert process.returncode == 0


def _next(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
    assert process.stdout is not None
    for text in process.stdout:
        line: dict[str, Any] = json.loads(text)
        if line["event"] == event:
            return line
    raise AssertionError(f"no line of {event}")


def test_a_camera_that_stays_away_ends_with_13_and_a_summary(
    trained: Trained, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    quick = cameras.Patience(open_s=5, frame_s=1, lost_s=1, first_wait_s=0.1)
    monkeypatch.setattr(cameras, "Patience", lambda: quick)
    with MjpegServer() as server:
        timer = threading.Timer(2.0, server.kill)
        timer.start()
        assert trained.predict("--camera", server.address) == 13
        timer.join()
    shown = capsys.readouterr().err
    assert SUMMARY.search(shown)
    assert re.search(r" \d+ frames dropped, the camera lost once$", shown, re.M)
    assert "did not come back" in shown.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_and_a_summary(trained: Trained, number: signal.Signals) -> None:
    folder = str(trained.photos)
    with signals_arrive():
        process = trained.process("--camera", folder, "--camera-rate", "0.5")
    assert process.stdout is not None
    assert process.stdout.readline()
    began = time.monotonic()
    process.send_signal(number)
    _, shown = process.communicate(timeout=30)
    # The next frame is two seconds away.
    assert time.monotonic() - began < 5
    assert process.returncode == 0
    assert "stopping after this frame" in shown
    assert SUMMARY.search(shown)


def test_a_stop_before_the_first_frame_is_no_lack_of_frames(
    trained: Trained, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Requested(StopFlag):
        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(live, "StopFlag", Requested)
    assert trained.predict("--camera", str(trained.photos)) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_has_enough_ends_it_quietly(trained: Trained) -> None:
    given = ("--json", "--every", "0", "--camera", str(trained.photos), "--camera-rate", "20")
    with trained.process(*given) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


def test_a_terminal_shows_one_line(trained: Trained) -> None:
    ours, theirs = pty.openpty()
    given = ("--camera", str(trained.photos / "bee"), "--camera-rate", "20")
    with trained.process(*given, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while True:
                shown += os.read(ours, 4096)
        except OSError:  # the terminal has no other end any more
            pass
    os.close(ours)
    assert process.returncode == 0
    live, rest = shown.decode().split("\r\n", 1)
    assert live.count("\r\x1b[K") >= 2
    assert re.search(r"bee [\d.]+%  [\d.]+ frames/s$", live)
    assert SUMMARY.fullmatch(rest.strip())


def test_a_command_runs_with_the_label(trained: Trained, tmp_path: Path) -> None:
    script = tmp_path / "note.sh"
    script.write_text(f'#!/bin/sh\necho "$MOBILETL_LABEL $MOBILETL_UNKNOWN" >> {tmp_path}/labels\n')
    script.chmod(0o755)
    assert trained.predict("--camera", str(trained.photos / "cat"), "--on-change", str(script)) == 0
    assert (tmp_path / "labels").read_text() == "cat 0\n"


@needs_mosquitto
def test_a_broker_is_told(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Mosquitto(tmp_path)
    given = ["--camera", str(trained.photos / "bee"), "--camera-rate", "4", "--mqtt-classes"]
    try:
        address = f"127.0.0.1:{broker.port}"
        assert trained.predict(*given, "--mqtt", address, "--mqtt-topic", "home/kitchen") == 0
        kept = broker.retained()
    finally:
        broker.stop()
    assert kept["home/kitchen/label"] == "bee"
    assert kept["home/kitchen/availability"] == "offline"
    assert sum(topic.startswith("homeassistant/binary_sensor/") for topic in kept) == 3
    assert sorted(v for t, v in kept.items() if "/class/" in t) == ["OFF", "OFF", "ON"]
    assert f"MQTT broker {address} is connected" in capsys.readouterr().err


def test_the_view_of_the_state_is_looked_through(
    trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    bundle = open_bundle(trained.bundle)
    tensors, info = load_state(trained.state, bundle.manifest)
    left = View(region=(0.0, 0.0, 0.5, 1.0))
    state = tmp_path / "state.safetensors"
    save_state(state, tensors, type(info)(**{**vars(info), "view": left}))
    folder = tmp_path / "halves"
    folder.mkdir()
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:] = COLOURS[0], COLOURS[2]
    Image.fromarray(pixels).save(folder / "0.png")
    given = ["--bundle", str(trained.bundle), "--state", str(state), "--runtime", "fake"]
    given += ["--json", "--camera", str(folder)]
    assert predict.main(given) == 0
    text, shown = capsys.readouterr()
    assert answers(text)[0]["label"] == "ant"
    assert "trained on pictures" not in shown
    assert predict.main([*given, "--roi", "0.5,0,0.5,1"]) == 0
    text, shown = capsys.readouterr()
    assert answers(text)[0]["label"] == "cat"
    assert "--rotate 0 --roi 0,0,0.5,1" in shown
    # Turned half round, and still cut as the state says: what was on the right.
    assert predict.main([*given, "--rotate", "180"]) == 0
    turned, shown = capsys.readouterr()
    assert answers(turned)[0]["label"] == "cat"
    assert "looked through with --rotate 180 --roi 0,0,0.5,1" in shown
    assert json.loads(text.splitlines()[0])["event"] == "note"


def test_bad_input_ends_with_its_code_and_one_line(
    trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    folder, empty = str(trained.photos), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jpg").write_text("x")
    other = write_tiny_bundle(tmp_path / "other", frozen="6" * 64)
    cases: list[tuple[int, list[str], str]] = [
        (13, ["--camera", str(empty)], "holds no file"),
        (13, ["--camera", str(tmp_path / "texts")], "no frame that can be read"),
        (2, ["--camera", str(tmp_path / "none")], "--camera"),
        (2, [], "give pictures"),
        (2, [folder, "--camera", folder], "one of the two"),
        (2, [folder, "--frames", "3", "--mqtt-tls"], "--frames needs --camera; --mqtt-tls needs"),
        (2, ["--camera", folder, "--top", "3"], "--top"),
        (2, ["--camera", folder, "--every", "1"], "--every needs --json or --mqtt"),
        (2, ["--camera", folder, "--frames", "0", "--seconds", "-1", "--every", "nan"], "--every"),
        (2, ["--camera", folder, "--on-change", "no-such-program"], "no program"),
        (2, ["--camera", folder, "--mqtt-topic", "a"], "--mqtt-topic needs --mqtt"),
        (2, ["--camera", folder, "--mqtt", "mqtt://x"], "without mqtt://"),
        (5, ["--camera", folder, "--state", str(tmp_path / "none")], "none"),
        (5, ["--camera", folder, "--bundle", str(other)], "bundle"),
    ]
    for code, more, why in cases:
        assert trained.predict(*more) == code, more
        lines = capsys.readouterr().err.splitlines()
        assert why in lines[-1], (more, lines)
        # The summary may stand before it.
        assert all(line.startswith("mobiletl: ") for line in lines)
        assert printable(lines[-1]) == lines[-1]
