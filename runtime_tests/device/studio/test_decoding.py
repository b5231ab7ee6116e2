"""Pictures that take much memory are decoded apart: the server does not grow, and outlives them."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.memory.available import available_bytes
from mobiletl.device.studio import decoding
from mobiletl.device.studio.decoding import decoded_apart

TWELVE = (4000, 3000)
# What one picture may take in the server, and what is no picture: a request's thread, its pieces.
GROWTH = 16_000_000 + 8_000_000


def flat(path: Path, size: tuple[int, int], colour: int = 90, **how: object) -> Path:
    Image.new("RGB", size, (colour, 120, 30)).save(path, **how)
    return path


def test_a_large_picture_comes_back_small(tmp_path: Path) -> None:
    content = decoded_apart(flat(tmp_path / "a.webp", (1600, 1200), method=0), 300)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (400, 300))


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.webp"
    file.write_text("no picture")
    with pytest.raises(UnreadablePicture, match="not a picture in a known format"):
        decoded_apart(file, 300)


def test_no_more_is_taken_than_the_board_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = decoding.LEFT_BYTES + 20_000_000
    monkeypatch.setattr(decoding, "available_bytes", lambda: available)
    words = r"takes \d+ MB to decode where 20 are planned; make it smaller"
    with pytest.raises(UnreadablePicture, match=words):
        decoded_apart(flat(tmp_path / "a.webp", TWELVE, method=0), 300)
    monkeypatch.setattr(decoding, "available_bytes", lambda: 1)
    with pytest.raises(UnreadablePicture, match="where 0 are planned"):
        decoded_apart(flat(tmp_path / "b.webp", (64, 64)), 300)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
        ("raise SystemExit(9)", "exit code 9"),
        ("import time; time.sleep(60)", "takes more than 1 seconds"),
    ],
)
def test_a_decoder_that_crashes_or_hangs_is_one_picture_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    file = tmp_path / "decoder.py"
    file.write_text(script)
    monkeypatch.setattr(decoding, "SCRIPT", file)
    monkeypatch.setattr(decoding, "MOST_SECONDS", 1)
    with pytest.raises(UnreadablePicture, match=said):
        decoded_apart(flat(tmp_path / "a.webp", (64, 64)), 300)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux'")
def test_the_system_holds_a_decoder_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "decoder.py"
    file.write_text(
        "from mobiletl.device.studio import decoding\n"
        "decoding._bounded(20_000_000)\n"
        "try:\n    bytearray(200_000_000)\n"
        "except MemoryError:\n    raise SystemExit(decoding._said(b'held', decoding.REFUSED))\n"
    )
    monkeypatch.setattr(decoding, "SCRIPT", file)
    with pytest.raises(UnreadablePicture, match="held"):
        decoded_apart(flat(tmp_path / "a.webp", (64, 64)), 300)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_server_does_not_grow_with_what_is_uploaded(tmp_path: Path) -> None:
    for package in ("httpx", "starlette", "uvicorn", "onnx"):
        pytest.importorskip(package)
    if (available_bytes() or 10**9) < 500_000_000:
        pytest.skip("too little memory is available for a WebP of 12 megapixels")
    import pillow_heif

    from runtime_tests.support.board.studio_service import Client, Process
    from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

    pillow_heif.register_heif_opener(decode_threads=1)
    uploads = [
        flat(tmp_path / "a.heic", TWELVE, 10, format="HEIF"),
        flat(tmp_path / "a.webp", TWELVE, 50, method=0),
        flat(tmp_path / "a.jpg", TWELVE, 90, progressive=True, subsampling=0),
        flat(tmp_path / "b.jpg", TWELVE, 130),
        flat(tmp_path / "a.png", TWELVE, 170, compress_level=1),
    ]
    server = Process(write_tiny_bundle(tmp_path / "bundle"), tmp_path / "project")
    try:
        with Client(server.port) as client:
            client.opened().ask("classes", name="large")
            # The first picture brings libraries along, which no later one does.
            small = flat(tmp_path / "small.png", (64, 48)).read_bytes()
            assert client.add("large", small).status_code == 201
            client.wait(lambda state: state["teaching"]["done"] == 1)
            before = peak(server.process.pid)
            for number, path in enumerate(uploads):
                answer = client.add("large", path.read_bytes())
                assert answer.status_code == 201, (path, answer.text)
                client.get(f"/api/pictures/{answer.json()['id']}/thumbnail").raise_for_status()
                client.wait(lambda state, done=number + 2: state["teaching"]["done"] == done)
                assert peak(server.process.pid) - before < GROWTH, path
    finally:
        server.kill()


def peak(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024
