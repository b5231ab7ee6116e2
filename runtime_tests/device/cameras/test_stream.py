"""Streams against a real MJPEG server in a process of its own, and real video files."""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.cameras.base import CameraEnded, CameraStopped, Wanted
from mobiletl.device.cameras.stream import Patience, open_stream
from mobiletl.device.errors import NoCamera, UsageError
from mobiletl.device.run.stop import StopFlag
from runtime_tests.support.board.mjpeg_server import MjpegServer, free_port
from runtime_tests.support.board.numbered_frames import HEIGHT, WIDTH, number_of, numbered

cv2 = pytest.importorskip("cv2")

QUICK = Patience(open_s=5, frame_s=1, lost_s=20, first_wait_s=0.1, most_wait_s=0.5)


@pytest.fixture
def server():
    with MjpegServer() as running:
        yield running


def numbers(stream, count):
    return [number_of(stream.read().content) for _ in range(count)]


def test_a_stream_gives_frames_in_order_with_time_and_identity(server):
    with open_stream(server.address) as stream:
        frames = [stream.read() for _ in range(5)]
        assert stream.live
        assert stream.count == 5
    found = [number_of(frame.content) for frame in frames]
    assert found == list(range(found[0], found[0] + 5))
    assert frames[0].content.shape == (HEIGHT, WIDTH, 3)
    assert abs(frames[-1].time_s - time.time()) < 5
    assert frames[0].time_s < frames[1].time_s
    assert len({frame.identity() for frame in frames}) == 5


def test_a_slow_reader_gets_the_newest_frame_and_drops_are_counted(server):
    with open_stream(server.address) as stream:
        (before,) = numbers(stream, 1)
        time.sleep(2)
        after, last = numbers(stream, 2)
        dropped = stream.dropped
    assert after - before > 35, "25 a second for two seconds; buffered frames would be older"
    assert last == after + 1
    assert after - before - 2 <= dropped <= after - before


def test_goes_on_after_the_server_was_killed_and_restarted(server):
    told = []
    with open_stream(server.address, tell=told.append, patience=QUICK) as stream:
        numbers(stream, 3)
        server.kill()
        restart = threading.Timer(1.0, server.start, ["--first", "5000"])
        restart.start()
        after = numbers(stream, 3)
        restart.join()
        assert (stream.count, stream.losses) == (6, 1)
        server.kill()
        server.start("--first", "9000")
        assert min(numbers(stream, 2)) > 9000
        assert (stream.count, stream.losses) == (8, 2)
    assert after[0] > 5000
    assert len(told) == 4, "once when it is lost, once when it is back"
    assert "gives no more frames" in told[0]
    assert "is back after" in told[1]
    assert "lost once so far" in told[1]
    assert "lost 2 times so far" in told[3]


def test_a_server_that_falls_silent_is_lost_and_given_up_in_the_stated_time(server):
    server.kill()
    server.start("--stall-after", "20")
    told = []
    patience = Patience(open_s=2, frame_s=0.5, lost_s=2, first_wait_s=0.1)
    with open_stream(server.address, tell=told.append, patience=patience) as stream:
        began = time.monotonic()
        with pytest.raises(NoCamera, match="did not come back within 2 seconds"):
            numbers(stream, 1000)
        assert time.monotonic() - began < 8
    assert "has given no frame for 0.5 seconds" in told[0]


def test_a_stop_ends_the_waiting_for_a_lost_camera(server):
    stop = StopFlag()
    with open_stream(server.address, stop=stop, patience=QUICK) as stream:
        numbers(stream, 1)
        server.kill()
        threading.Timer(0.5, stop.request).start()
        began = time.monotonic()
        with pytest.raises(CameraStopped):
            numbers(stream, 1000)
        assert time.monotonic() - began < 2


def test_a_password_is_used_and_never_shown(server):
    server.kill()
    server.start("--password", "s3cret")
    with pytest.raises(NoCamera, match="refuses the password"):
        open_stream(server.address)
    address = server.address.replace("//", "//user:s3cret@") + "?token=s3cret"
    with open_stream(address) as stream:
        assert "s3cret" not in stream.read().name + stream.name
    server.kill()
    with pytest.raises(NoCamera) as refused:
        open_stream(address)
    assert "s3cret" not in str(refused.value)


def test_an_address_where_nothing_listens_is_refused_at_once_and_libraries_are_silent():
    code = (
        "import sys\nfrom mobiletl.device.cameras.stream import open_stream\n"
        "try:\n    open_stream(sys.argv[1])\nexcept Exception as error:\n    print(error)"
    )
    address = f"rtsp://user:s3cret@127.0.0.1:{free_port()}/live"
    # A process of its own: FFmpeg takes its level of noise once, when it first opens anything.
    ended = subprocess.run(
        [sys.executable, "-c", code, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=20,
        check=True,
    )
    (line,) = ended.stdout.decode().splitlines()
    assert "nothing answers there" in line
    assert "s3cret" not in line


@pytest.fixture
def silent():
    """An address where somebody listens and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        yield f"rtsp://127.0.0.1:{listening.getsockname()[1]}/live"


def test_an_address_that_never_answers_is_given_up(silent):
    began = time.monotonic()
    with pytest.raises(NoCamera, match="has given no frame within 1 seconds"):
        open_stream(silent, patience=Patience(open_s=1))
    assert time.monotonic() - began < 4


def test_a_stop_ends_the_waiting_for_an_address_that_never_answers(silent):
    stop = StopFlag()
    threading.Timer(0.5, stop.request).start()
    began = time.monotonic()
    with pytest.raises(CameraStopped):
        open_stream(silent, stop=stop)
    assert time.monotonic() - began < 4


def test_a_recording_behind_an_address_is_read_to_its_end(tmp_path):
    video = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT)
    )
    for number in range(30):
        video.write(numbered(number))
    video.release()
    handler = functools.partial(QuietFiles, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        with open_stream(f"http://127.0.0.1:{files.server_port}/clip.avi") as stream:
            assert not stream.live
            assert numbers(stream, 30) == list(range(30))
            with pytest.raises(CameraEnded):
                stream.read()
        files.shutdown()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Print nothing."""


def test_a_size_that_a_camera_does_not_give_is_told_once(server):
    told = []
    wanted = Wanted(width=1280, height=720)
    with open_stream(server.address, wanted, tell=told.append) as stream:
        numbers(stream, 3)
    assert told == [
        f"{server.address} gives 160 x 120 pixels, not the 1280 x 720 that were asked for; "
        "it goes on with these"
    ]


def test_black_frames_are_told_once_and_not_refused(server):
    server.kill()
    server.start("--black")
    told = []
    with open_stream(server.address, tell=told.append) as stream:
        for _ in range(25):
            assert not np.any(stream.read().content > 20)
    assert len(told) == 1
    assert "are black" in told[0]


def test_what_is_no_camera_is_refused_with_all_kinds():
    with pytest.raises(UsageError, match=r"none of: .*GStreamer.*rtsp.*/dev/video0.*folder"):
        open_stream("nothing/of/the/kind")


def test_a_folder_ends(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    with open_stream(str(tmp_path)) as stream:
        assert stream.read().content.shape == (6, 8, 3)
        with pytest.raises(CameraEnded):
            stream.read()
    assert not stream.live


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_losses_leave_no_descriptor_and_no_thread_behind(server):
    def held():
        return sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()

    with open_stream(server.address, patience=QUICK) as stream:
        before = None
        for number in range(8):
            server.kill()
            server.start("--rate", "100")
            numbers(stream, 50)
            if number == 1:  # libraries keep a little from the first time on
                before = held()
        assert stream.losses == 8
        assert held() == before
    assert threading.active_count() == before[1] - 1
