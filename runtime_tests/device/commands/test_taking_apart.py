"""Pictures taken by a child process: what it says and what happens to it reach the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from mobiletl.device.bundle.view import AskedView
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.capturing.selection import Rules
from mobiletl.device.commands.camera_flags import ChosenCamera
from mobiletl.device.commands.taking import Order, order_of, take
from mobiletl.device.commands.taking_apart import take_apart
from mobiletl.device.errors import NoCamera, NoSpace, UsageError
from mobiletl.device.pictures.dataset import files_below
from runtime_tests.support.board.scenes import write_scenes

if not hasattr(signal, "sigtimedwait"):
    pytest.skip("this system takes pictures in one process", allow_module_level=True)

# Takes pictures as `train` does before it trains.
COMMAND = """
import sys
from mobiletl.device.commands.table import guarded
from mobiletl.device.commands.taking import Order
from mobiletl.device.commands.taking_apart import take_apart
from runtime_tests.device.commands.test_taking_apart import order

def taken():
    done = take_apart(order(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    print(done.counts, "cv2" in sys.modules, flush=True)
    return 0

sys.exit(guarded(taken))
"""


def order(data: str, camera: str, rate: float = 200.0, goal: int = 4, names: str = "ab") -> Order:
    chosen = ChosenCamera(camera, Wanted(rate=rate), AskedView(90, (0.0, 0.25, 1.0, 0.5)))
    return Order(Path(data), tuple(names), goal, True, False, chosen, Rules(), 10**9)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    return write_scenes(tmp_path / "camera", list(range(12)))


@contextlib.contextmanager
def started(data: Path, camera: Path, rate: float) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", COMMAND, str(data), str(camera), str(rate)]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def child_of(process: int) -> int:
    """Return the process that takes the pictures; NumPy may have started others."""
    until = time.monotonic() + 60
    listed = Path(f"/proc/{process}/task/{process}/children")
    while time.monotonic() < until:
        for child in listed.read_text().split():
            with contextlib.suppress(OSError):
                if b"_take.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.02)
    raise AssertionError("no child")


def wait_for_pictures(data: Path) -> None:
    until = time.monotonic() + 60
    while not (data / "a").is_dir() or not files_below(data / "a"):
        assert time.monotonic() < until
        time.sleep(0.05)


def gone(process: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # nobody waits for it where the tests' process 1 does not
            return True
        time.sleep(0.05)
    return False


def test_an_order_passes_through_json() -> None:
    for view in (AskedView(), AskedView(270), AskedView(270, (0.1, 0.2, 0.3, 0.4))):
        wanted = Order(
            data=Path("photos"),
            names=("Käse", "none"),
            goal=None,
            guided=False,
            countdown=True,
            camera=ChosenCamera("rtsp://a:b@c/d", Wanted(640, 480, 15.0, True), view),
            rules=Rules(0.1, 0.2),
            limit_bytes=5,
            seconds=2.5,
        )
        assert order_of(wanted.document()) == wanted


def test_it_gives_what_one_process_gives(
    tmp_path: Path, camera: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    apart = take_apart(order(str(tmp_path / "apart"), str(camera)))
    said = capfd.readouterr().err
    assert apart == take(order(str(tmp_path / "here"), str(camera)))
    assert said.replace("apart", "here") == capfd.readouterr().err
    assert apart.counts["a"] == 4
    pictures = [
        {path.read_bytes() for path in files_below(tmp_path / name) if path.suffix == ".jpg"}
        for name in ("apart", "here")
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("names", "source", "error", "said"),
    [
        ("ab", "nowhere", UsageError, "nowhere is none of"),
        ("ab", "empty", NoCamera, "holds no file to play"),
        ("a/", "camera", UsageError, "has / in it"),
    ],
)
def test_errors_are_those_of_one_process(
    tmp_path: Path, camera: Path, names: str, source: str, error: type, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    wanted = order(str(tmp_path / "data"), str(tmp_path / source), names=names)
    with pytest.raises(error, match=said) as apart:
        take_apart(wanted)
    with pytest.raises(error, match=said) as here:
        take(wanted)
    assert str(apart.value) == str(here.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, camera: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = order(str(tmp_path / "file" / "data"), str(camera))
    with pytest.raises(NoSpace, match="cannot be written"):
        take_apart(wanted)


def test_no_library_of_a_camera_stays(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    video = str(tmp_path / "video.avi")
    scenes = [
        cv2.imread(str(path)) for path in files_below(write_scenes(tmp_path / "s", [0, 1, 2]))
    ]
    height, width = scenes[0].shape[:2]
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    for scene in scenes * 2:
        writer.write(scene)
    writer.release()
    with started(tmp_path / "data", Path(video), 200) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("False\n")


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_command_alone_stops_both(tmp_path: Path, camera: Path, name: str) -> None:
    data = tmp_path / "data"
    with started(data, camera, 0.5) as process:
        child = child_of(process.pid)
        wait_for_pictures(data)
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "data has " in err
    assert "the same command goes on with them" in err
    assert "Traceback" not in err
    assert gone(child)


@pytest.mark.usefixtures("heard_signals")
def test_the_second_signal_stops_at_once(tmp_path: Path, camera: Path) -> None:
    data = tmp_path / "data"
    # A frame every 50 seconds: after the first it waits.
    with started(data, camera, 0.02) as process:
        wait_for_pictures(data)
        time.sleep(2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 130
    assert err.endswith("mobiletl: stopped\n")
    assert time.monotonic() - began < 40


def test_a_command_that_is_killed_takes_the_child_along(tmp_path: Path, camera: Path) -> None:
    data = tmp_path / "data"
    with started(data, camera, 0.5) as process:
        child = child_of(process.pid)
        wait_for_pictures(data)
        process.kill()
        assert gone(child)


def test_a_child_that_dies_is_told(tmp_path: Path, camera: Path) -> None:
    data = tmp_path / "data"
    with started(data, camera, 0.5) as process:
        child = child_of(process.pid)
        wait_for_pictures(data)
        os.kill(child, signal.SIGSEGV)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 13
    assert "camera died (SIGSEGV)" in err


def test_ignored_signals_stay_ignored(tmp_path: Path, camera: Path) -> None:
    data = tmp_path / "data"
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with started(data, camera, 20) as process:
            wait_for_pictures(data)
            process.send_signal(signal.SIGHUP)
            out, err = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert process.returncode == 0, err
    assert out.startswith("{'a': 4")
