"""Decoding: every kind of picture becomes the RGB a person sees, everything else one error."""

from __future__ import annotations

import errno
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.colours import eight_bits
from mobiletl.device.bundle.decode import (
    PictureAway,
    UnreadablePicture,
    check_header,
    decode,
    decoding_bytes,
)

# Nothing is made smaller for a network that wants so much.
WHOLE = 10_000

# How an upright picture is stored when the camera was held so that EXIF says that number.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright() -> Image.Image:
    """Return 6 x 4 pixels that no turning leaves as they are."""
    return Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3)


def rgb(path: Path) -> np.ndarray:
    image = decode(path, WHOLE)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    turn = STORED[orientation]
    stored = upright() if turn is None else upright().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    stored.save(path, exif=exif)
    np.testing.assert_array_equal(rgb(path), np.asarray(upright()))


def test_orientation_of_a_reduced_jpeg(tmp_path: Path) -> None:
    pixels = np.zeros((800, 400, 3), np.uint8)
    pixels[:400] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    image = decode(tmp_path / "a.jpg", 100)
    assert image.size == (200, 100)
    assert image.getpixel((190, 50)) == (255, 255, 255)
    assert image.getpixel((10, 50)) == (0, 0, 0)


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    upright().save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), np.asarray(upright()))


def test_cmyk(tmp_path: Path) -> None:
    # Cyan 100 %, the rest none.
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=95)
    found = rgb(tmp_path / "a.jpg").reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(found, (0, 255, 255), atol=6)


def test_palette_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.gif")
    assert rgb(tmp_path / "a.gif").tolist() == [[[10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_transparent_palette_entry_is_white(tmp_path: Path, transparency: object) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=transparency)
    assert rgb(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparent_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert rgb(tmp_path / "a.png").tolist() == [[[255, 255, 255], [9, 9, 9]]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBA", (100, 0, 200, 51), (224, 204, 244)),
    ],
)
def test_modes(tmp_path: Path, mode: str, colour: object, expected: object) -> None:
    Image.new(mode, (3, 2), colour).save(tmp_path / "a.png")
    assert {tuple(pixel) for pixel in rgb(tmp_path / "a.png").reshape(-1, 3)} == {expected}


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 300, 32768, 65278, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tiff")
    for name in ("a.png", "a.tiff"):
        assert rgb(tmp_path / name)[0, :, 0].tolist() == [0, 1, 1, 128, 254, 255]


def test_sixteen_bit_rounding_is_exact_everywhere() -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(eight_bits(every), np.rint(every / 257.0))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wider_grey_is_stretched(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.array([[-5, 0, 5]], kind)).save(tmp_path / "a.tiff")
    assert rgb(tmp_path / "a.tiff")[0, :, 0].tolist() == [0, 128, 255]


def test_flat_and_broken_floats(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 7, np.float32)).save(tmp_path / "flat.tiff")
    assert rgb(tmp_path / "flat.tiff").max() == 0
    Image.fromarray(np.array([[np.nan, np.inf, 2]], np.float32)).save(tmp_path / "nan.tiff")
    assert rgb(tmp_path / "nan.tiff")[0, :, 0].tolist() == [0, 0, 255]


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert rgb(tmp_path / "a.webp")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp", "tiff"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, {"jpg": "JPEG", "tiff": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(UnreadablePicture) as caught:
        decode(path, 32)
    assert caught.value.name == str(path)
    assert caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00\x00\x00\x00\x00"],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadablePicture):
        check_header(path)
    with pytest.raises(UnreadablePicture):
        decode(path, 32)


def test_formats_that_start_programs_are_not_tried(tmp_path: Path) -> None:
    upright().save(tmp_path / "a.eps")
    with pytest.raises(UnreadablePicture, match="known format"):
        decode(tmp_path / "a.eps", 32)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match="No such file"):
        check_header(tmp_path / "none.jpg")
    with pytest.raises(UnreadablePicture, match="directory"):
        check_header(tmp_path)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    end = b"\x00\x00\x00\x00IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunk + end


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (10_000, "truncated"),
        (100_000, r"takes \d+ MB to decode where 128 are planned; make it smaller"),
    ],
)
def test_decompression_bomb(tmp_path: Path, side: int, reason: str) -> None:
    """A header may claim anything; its memory is planned before any is taken."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    check_header(path)
    with pytest.raises(UnreadablePicture, match=reason):
        decode(path, 400)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "bmp"])
def test_what_takes_too_much_is_refused_by_its_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (2000, 1500)).save(path)
    planned = decoding_bytes(path, 32)
    assert decode(path, 32, limit=planned).size == (125, 94)
    for read in (decode, decoding_bytes):
        with pytest.raises(UnreadablePicture, match=r"takes \d+ MB to decode") as caught:
            read(path, 32, limit=planned // 2)
        assert caught.value.name == str(path)


def test_large_pictures_are_decoded_small(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4000, 3000), (10, 200, 30))
    picture.save(tmp_path / "a.jpg")
    assert decode(tmp_path / "a.jpg", 448).size == (1000, 750)
    assert decode(tmp_path / "a.jpg", 3000).size == (4000, 3000)
    for suffix in ("png", "bmp", "gif"):
        picture.save(tmp_path / f"a.{suffix}")
        assert decode(tmp_path / f"a.{suffix}", 448).size == (667, 500)
        assert decode(tmp_path / f"a.{suffix}", 1501).size == (4000, 3000)


def test_a_long_picture_comes_smaller_than_wanted_before_it_is_refused(tmp_path: Path) -> None:
    Image.new("L", (30_000, 600)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 400, limit=20_000_000).size == (10_000, 200)
    with pytest.raises(UnreadablePicture, match="where 10 are planned"):
        decode(tmp_path / "a.png", 400, limit=10_000_000)


def test_a_progressive_jpeg_is_planned_with_its_coefficients(tmp_path: Path) -> None:
    picture = Image.new("RGB", (1600, 1200))
    picture.save(tmp_path / "base.jpg")
    picture.save(tmp_path / "a.jpg", progressive=True, subsampling=0)
    picture.save(tmp_path / "b.jpg", progressive=True, subsampling=2)
    base, whole, halved = (
        decoding_bytes(tmp_path / name, 100) for name in ("base.jpg", "a.jpg", "b.jpg")
    )
    assert base < 1_000_000
    # 2 bytes for each of three samples of a pixel; or for one and a half.
    assert whole - 2 * 3 * 1600 * 1200 == halved - 3 * 1600 * 1200 == base // 2


def test_many_scans_are_refused_at_once(tmp_path: Path) -> None:
    """Each goes through all of the picture: 500 of them took 11 s."""
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 200)).save(whole, "JPEG", progressive=True)
    content = whole.getvalue()
    last = content.rindex(b"\xff\xda")
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:-2] + 500 * content[last:-2] + content[-2:])
    with pytest.raises(UnreadablePicture, match="more than 100 scans"):
        decode(path, 32)
    path.write_bytes(content[:-2] + 20 * content[last:-2] + content[-2:])
    assert decode(path, 64).size == (64, 64)


def test_what_the_system_says_of_a_disk_is_not_said_of_the_picture(tmp_path: Path) -> None:
    class Away(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(PictureAway, match="Input/output error"):
        decode(Away(), 32, "a.jpg")
    with pytest.raises(PictureAway, match="No such file"):
        decode(tmp_path / "none.jpg", 32)
    (tmp_path / "short.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UnreadablePicture) as caught:
        decode(tmp_path / "short.jpg", 32)
    assert not isinstance(caught.value, PictureAway)


def test_decoding_is_repeatable_and_closes_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "odd \n 'name' \u202e.jpg"
    Image.fromarray(noise).save(path)
    np.testing.assert_array_equal(rgb(path), rgb(path))
