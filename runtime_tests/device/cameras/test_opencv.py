"""Video files that OpenCV itself wrote, and frames against files of them."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras import fixes
from mobiletl.device.cameras.addresses import shown_source
from mobiletl.device.cameras.base import CameraEnded, Wanted
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.errors import MissingDependency, NoCamera
from runtime_tests.support.board.numbered_frames import HEIGHT, WIDTH, number_of, numbered

cv2 = pytest.importorskip("cv2")

MANY = 10_000
MEBIBYTE = 1 << 20


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(cv2.cvtColor(numbered(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def numbers_of_all(stream):
    found = []
    with contextlib.suppress(CameraEnded):
        while True:
            found.append(number_of(stream.read().content))
    return found


def test_a_video_gives_every_frame_once_and_ends(tmp_path):
    video = write_video(tmp_path / "clip.avi", 60)
    with open_stream(str(video)) as stream:
        found = numbers_of_all(stream)
        with pytest.raises(CameraEnded, match=r"all 60 frames of .*clip\.avi are played"):
            stream.read()
        assert (stream.live, stream.dropped, stream.count) == (False, 0, 60)
    assert found == list(range(60))


def test_colours_are_red_green_blue(tmp_path):
    video = str(tmp_path / "red.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (10, 20, 230), np.uint8))  # OpenCV's order: B, G, R
    writer.release()
    with open_stream(video) as stream:
        red, green, blue = stream.read().content[20, 20]
    assert red > 200
    assert max(green, blue) < 50


def test_the_view_turns_and_cuts_a_frame(tmp_path):
    video = write_video(tmp_path / "clip.avi", 2)
    with open_stream(str(video)) as plain, open_stream(
        str(video), view=View(90, (0.0, 0.5, 1.0, 0.5))
    ) as turned:
        whole, part = plain.read().content, turned.read().content
    np.testing.assert_array_equal(part, np.rot90(whole, -1)[WIDTH // 2 :])


def test_a_frame_is_prepared_exactly_as_a_file_of_it(tmp_path):
    size = Input(resolution=96, resize=110, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    video = write_video(tmp_path / "clip.avi", 3)
    with open_stream(str(video), view=View(270, (0.1, 0.0, 0.8, 0.9))) as stream:
        for number in range(3):
            frame = stream.read()
            file = tmp_path / f"{number}.png"
            Image.fromarray(frame.content).save(file)
            from_file = prepare(Frame(str(file), file), size)
            np.testing.assert_array_equal(prepare(frame, size), from_file)


def test_what_is_no_video_is_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(NoCamera, match=r"notes\.mp4 is no video that OpenCV can read"):
        open_stream(str(text))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(NoCamera, match="is no video"):
        open_stream(str(empty))


def test_a_truncated_video_ends_where_it_is_torn(tmp_path):
    video = write_video(tmp_path / "clip.avi", 60)
    content = video.read_bytes()
    torn = tmp_path / "torn.avi"
    torn.write_bytes(content[: len(content) // 2])
    with open_stream(str(torn)) as stream:
        found = numbers_of_all(stream)
    assert found == list(range(len(found)))
    assert 20 < len(found) < 40


def test_a_missing_opencv_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", None)
    video = tmp_path / "clip.avi"
    video.touch()
    with pytest.raises(MissingDependency, match='pip install "opencv-python-headless'):
        open_stream(str(video))


def test_the_line_to_type_installs_what_the_extra_does():
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert f'"{fixes.INSTALL_OPENCV.split(chr(34))[1]}",' in project.read_text(encoding="utf-8")


def test_opencv_is_not_imported_before_it_is_needed():
    code = "import sys; import mobiletl.device.cameras.stream; print('cv2' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"False"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:pa@ss@cam.local:554/live?pwd=x#y", "rtsp://cam.local:554/live"),
        ("http://[", "http://["),
        ("rtsp://me:secret@[", "rtsp://["),
        ("rtspsrc location=rtsp://me:secret@cam ! decodebin", "pipeline rtspsrc"),
        ("/dev/video0", "/dev/video0"),
        ("clip\n.mp4", "clip\\n.mp4"),
    ],
)
def test_nothing_shown_holds_a_secret(source, shown):
    assert shown_source(source) == shown


def test_a_video_can_be_played_in_its_time(tmp_path):
    video = write_video(tmp_path / "clip.avi", 12)
    began = time.monotonic()
    with open_stream(str(video), Wanted(rate=20.0)) as stream:
        assert len(numbers_of_all(stream)) == 12
    assert 0.5 < time.monotonic() - began < 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_ten_thousand_frames_and_a_hundred_openings_hold_no_memory_and_no_descriptor(tmp_path):
    long, short = write_video(tmp_path / "long.avi", MANY), write_video(tmp_path / "a.avi", 5)

    def play(path, most):
        with open_stream(str(path)) as stream:
            for _ in range(most):
                stream.read()

    play(long, 500)
    play(short, 5)
    before, files = peak_bytes(), descriptors()
    play(long, MANY)
    for _ in range(100):
        play(short, 5)
    assert descriptors() <= files
    assert peak_bytes() - before < 4 * MEBIBYTE


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
