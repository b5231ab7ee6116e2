"""RTSP against GStreamer's own server, where this machine has it; killed and started again."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from mobiletl.device.cameras.stream import Patience, open_stream
from runtime_tests.support.board import mjpeg_server

pytest.importorskip("cv2")

SCRIPT = Path(mjpeg_server.__file__).with_name("rtsp_server.py")
PYTHON = Path("/usr/bin/python3")
HAS_SERVER = "import gi; gi.require_version('GstRtspServer', '1.0')"


class Server:
    def __init__(self):
        self.port = mjpeg_server.free_port()
        self.address = f"rtsp://127.0.0.1:{self.port}/live"
        self.start()

    def start(self):
        command = [str(PYTHON), str(SCRIPT), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server():
    if not PYTHON.exists() or subprocess.call(
        [str(PYTHON), "-c", HAS_SERVER], stderr=subprocess.DEVNULL
    ):
        pytest.skip("no GStreamer RTSP server here: apt install gir1.2-gst-rtsp-server-1.0")
    running = Server()
    yield running
    running.kill()


def test_a_stream_is_lost_with_its_server_and_comes_back(server):
    told = []
    patience = Patience(frame_s=2, lost_s=40, first_wait_s=0.1, most_wait_s=0.5)
    with open_stream(server.address, tell=told.append, patience=patience) as stream:
        assert stream.live
        for _ in range(25):
            frame = stream.read()
        assert frame.content.shape == (240, 320, 3)
        yellow = frame.content[60, 68]
        assert min(yellow[:2]) > 150
        assert yellow[2] < 50, "red, green, blue, in this order"
        server.kill()
        restart = threading.Timer(1.0, server.start)
        restart.start()
        for _ in range(25):
            stream.read()
        restart.join()
        assert stream.losses == 1
        assert stream.count == 50
    assert len(told) == 2
    assert "is back after" in told[1]
