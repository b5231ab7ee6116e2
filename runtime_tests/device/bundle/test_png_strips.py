"""PNGs strip by strip against Pillow's own reading of the whole."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle import colours
from mobiletl.device.bundle.colours import reduced
from mobiletl.device.bundle.decode import decode
from mobiletl.device.bundle.png_strips import reduced_png

WIDTH, HEIGHT, FACTOR = 37, 41, 3
# Colour type, bits a sample, samples a pixel: all that the specification has.
KINDS = [
    *((0, depth, 1) for depth in (1, 2, 4, 8, 16)),
    *((2, depth, 3) for depth in (8, 16)),
    *((3, depth, 1) for depth in (1, 2, 4, 8)),
    *((4, depth, 2) for depth in (8, 16)),
    *((6, depth, 4) for depth in (8, 16)),
]


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def noise_png(kind: tuple[int, int, int], before: bytes = b"", after: bytes = b"") -> bytes:
    """Write rows of noise, which is a picture under every filter; the filters take turns."""
    colour, depth, samples = kind
    drawn = np.random.default_rng(list(kind))
    row_bytes = (WIDTH * depth * samples + 7) // 8
    rows = b"".join(bytes([y % 5]) + drawn.bytes(row_bytes) for y in range(HEIGHT))
    stream = zlib.compress(rows)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", drawn.bytes(3 << depth)) if colour == 3 else b""
    # In chunks that are no rows.
    pixels = b"".join(chunk(b"IDAT", stream[at : at + 100]) for at in range(0, len(stream), 100))
    whole = chunk(b"IHDR", header) + palette + before + pixels + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of six rows."""
    monkeypatch.setattr(colours, "STRIP_PIXELS", 2 * WIDTH * FACTOR)


def both(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    with Image.open(io.BytesIO(content)) as whole:
        whole.load()
        expected = np.asarray(reduced(whole, FACTOR))
    with Image.open(io.BytesIO(content)) as image:
        found = np.asarray(reduced_png(image, io.BytesIO(content), FACTOR))
    return found, expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_as_pillow_reads_it(kind: tuple[int, int, int]) -> None:
    found, expected = both(noise_png(kind))
    assert found.shape == (14, 13, 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "transparency"),
    [
        ((0, 8, 1), b"\0\x07"),
        ((0, 16, 1), b"\1\x07"),
        ((2, 8, 3), b"\0\1\0\2\0\3"),
        ((3, 8, 1), bytes(range(200))),
        ((3, 2, 1), b"\xff\0\x7f"),
    ],
)
def test_transparency_by_colour(kind: tuple[int, int, int], transparency: bytes) -> None:
    found, expected = both(noise_png(kind, chunk(b"tRNS", transparency)))
    np.testing.assert_array_equal(found, expected)


def test_means_are_those_of_the_pixels() -> None:
    """Not only that both ways agree: worked out by NumPy from what Pillow has decoded."""
    content = noise_png((2, 8, 3))
    found, _ = both(content)
    pixels = np.asarray(Image.open(io.BytesIO(content)), np.float64)[:39, :36]
    means = pixels.reshape(13, FACTOR, 12, FACTOR, 3).mean(axis=(1, 3))
    assert np.abs(found[:13, :12] - means).max() < 0.6


@pytest.mark.parametrize("where", ["before", "after"])
def test_it_is_turned_upright_wherever_the_exif_is(where: str) -> None:
    """Pillow looks behind the pixels, too, and would read all of them for that."""
    turned = Image.Exif()
    turned[0x0112] = 6
    content = noise_png((2, 8, 3), **{where: chunk(b"eXIf", turned.tobytes()[6:])})
    image = decode(io.BytesIO(content), HEIGHT // FACTOR - 1)
    assert image.size == (14, 13)
    plain, _ = both(noise_png((2, 8, 3)))
    np.testing.assert_array_equal(np.asarray(image), np.rot90(plain, -1))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(share: float) -> None:
    whole = noise_png((2, 8, 3))
    content = whole[: int(share * len(whole))]
    with Image.open(io.BytesIO(content)) as image, pytest.raises(OSError, match="truncated"):
        reduced_png(image, io.BytesIO(content), FACTOR)


def test_damaged() -> None:
    content = bytearray(noise_png((2, 8, 3)))
    content[content.index(b"IDAT") + 4 + 2] |= 0x06  # There is no block of type 3.
    with Image.open(io.BytesIO(content)) as image, pytest.raises(zlib.error):
        reduced_png(image, io.BytesIO(content), FACTOR)
