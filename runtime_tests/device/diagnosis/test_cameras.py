"""What the doctor says of cameras, on the files of boards with and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device.cameras.devices import holders_of, video_devices
from mobiletl.device.diagnosis.facts import Facts
from runtime_tests.support.board.board_files import JETSON, PI4
from runtime_tests.support.board.diagnosed import BOOKWORM, facts_of, found, with_packages


def with_opencv(facts: Facts, root: Path) -> Facts:
    """Return the facts of a board that has OpenCV and no picamera2, and what is below `root`."""
    process = replace(facts.process, importable=frozenset({"cv2"}))
    return replace(facts, process=process, video_devices=video_devices(root))


def add_device(root: Path, number: int, name: str, index: int = 0) -> Path:
    about = root / f"sys/class/video4linux/video{number}"
    about.mkdir(parents=True)
    (about / "name").write_text(name + "\n")
    (about / "index").write_text(f"{index}\n")
    device = root / f"dev/video{number}"
    device.parent.mkdir(exist_ok=True)
    device.touch()
    return device


def test_without_a_library(tmp_path: Path) -> None:
    facts = facts_of(PI4, tmp_path)
    assert found(facts, "camera").level == "ok"
    none = replace(facts, process=replace(BOOKWORM, importable=frozenset()))
    assert found(none, "camera").to_type == "sudo apt install -y python3-picamera2"
    elsewhere = replace(none, model="NVIDIA Jetson Nano Developer Kit")
    assert found(elsewhere, "camera").level == "note"
    assert 'pip install "opencv-python-headless' in found(elsewhere, "camera").to_type
    hidden = replace(none, system_picamera2=True)
    assert "--system-site-packages" in found(hidden, "camera").to_type


def test_a_newer_numpy_over_the_one_picamera2_was_built_for(tmp_path: Path) -> None:
    over = with_packages(numpy=("2.4.6", "1.24.2"))
    finding = found(facts_of(PI4, tmp_path, over), "camera")
    assert finding.level == "warning"
    assert finding.to_type.startswith("pip uninstall -y numpy")


def test_usb_cameras_are_named_and_a_boards_converters_are_not(tmp_path: Path) -> None:
    facts = facts_of(PI4, tmp_path)
    assert "no /dev/video* now" in found(with_opencv(facts, tmp_path), "camera").found
    add_device(tmp_path, 10, "bcm2835-codec-decode")
    add_device(tmp_path, 2, "HD Webcam C270")
    add_device(tmp_path, 3, "HD Webcam C270", index=1)
    finding = found(with_opencv(facts, tmp_path), "camera")
    assert (finding.level, finding.to_type) == ("ok", "")
    assert finding.found == "OpenCV for USB cameras (/dev/video2 (HD Webcam C270))"


def test_the_raw_end_of_a_ribbon_needs_picamera2(tmp_path: Path) -> None:
    add_device(tmp_path, 0, "unicam")
    finding = found(with_opencv(facts_of(PI4, tmp_path), tmp_path), "camera")
    assert finding.level == "warning"
    assert finding.to_type.startswith("--camera picamera2")


def test_a_busy_camera_names_the_program(tmp_path: Path) -> None:
    add_device(tmp_path, 0, "HD Webcam")
    held = tmp_path / "proc/4711"
    (held / "fd").mkdir(parents=True)
    (held / "comm").write_text("motion\n")
    (held / "fd/7").symlink_to("/dev/video0")
    finding = found(with_opencv(facts_of(PI4, tmp_path), tmp_path), "camera")
    assert finding.level == "warning"
    assert finding.found == "/dev/video0 (HD Webcam) is in use by motion (process 4711)"
    assert "fuser -v /dev/video0" in finding.to_type


def test_holders_are_found_on_this_machine(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here")
    file = tmp_path / "video0"
    file.touch()
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        (holder,) = holders_of(str(file))
        program.communicate()
    assert f"(process {program.pid})" in holder
    assert holders_of(str(file)) == ()


def test_a_device_of_another_group_names_the_group(tmp_path: Path) -> None:
    add_device(tmp_path, 0, "HD Webcam").chmod(0)
    facts = with_opencv(facts_of(PI4, tmp_path), tmp_path)
    if os.geteuid() == 0:  # root may open everything
        (device,) = facts.video_devices
        facts = replace(facts, video_devices=(replace(device, allowed=False),))
    finding = found(facts, "camera")
    assert finding.found == "/dev/video0 (HD Webcam) is not for this user"
    assert finding.to_type.startswith("sudo usermod -aG video $USER")


def test_a_jetson_with_the_opencv_of_pypi_is_told_of_gstreamer(tmp_path: Path) -> None:
    process = with_packages(opencv_python_headless=("4.11.0.86",))
    facts = with_opencv(facts_of(JETSON, tmp_path, process), tmp_path)
    finding = found(facts, "camera")
    assert finding.level == "note"
    assert "python3-opencv" in finding.to_type
