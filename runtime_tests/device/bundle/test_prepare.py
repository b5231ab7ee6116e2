"""Pictures made ready for evaluation: torchvision's crop, the same bits from every source."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame, frame_of
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import (
    evaluated,
    evaluation_short_side,
    normalise,
    prepare,
)

SIZE = Input(resolution=32, resize=36, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def normalised(image: Image.Image) -> np.ndarray:
    """Normalise as written in docs/bundle.md, in double precision."""
    x = np.asarray(image, np.float64) / 255
    return ((x - np.array(SIZE.mean)) / np.array(SIZE.std)).transpose(2, 0, 1)


def evaluate(image: Image.Image) -> np.ndarray:
    out = np.full((3, 32, 32), np.nan, np.float32)
    normalise(evaluated(image, SIZE), SIZE, out)
    return out


@pytest.mark.parametrize("size", [(72, 36), (40, 57), (301, 200), (36, 36), (37, 148), (20, 11)])
def test_evaluation_is_resize_then_central_crop(size: tuple[int, int]) -> None:
    image = noise(*size)
    width, height = (int(36 * side / min(size)) for side in size)
    # Rows first: Pillow 13 alone would begin with the columns of a tall picture.
    rows = image.resize((width, image.height), Image.Resampling.BILINEAR)
    whole = rows.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 32) / 2), round((height - 32) / 2)
    expected = normalised(whole.crop((left, top, left + 32, top + 32)))
    np.testing.assert_allclose(evaluate(image), expected, rtol=0, atol=1e-5)


def test_long_picture_shows_its_middle() -> None:
    image = Image.new("RGB", (1000, 36))
    image.paste((255, 255, 255), (480, 0, 520, 36))
    np.testing.assert_allclose(evaluate(image), evaluate(Image.new("RGB", (36, 36), "white")))


def test_extreme_shapes_take_no_memory() -> None:
    # Resized as a whole this would be 36 x 720000 pixels.
    assert np.isfinite(evaluate(Image.new("RGB", (1, 20_000), (9, 9, 9)))).all()
    assert np.isfinite(evaluate(Image.new("RGB", (20_000, 1), (9, 9, 9)))).all()


def test_a_jpeg_is_decoded_with_a_reserve() -> None:
    assert evaluation_short_side(SIZE) == 72


def test_file_upload_and_pixels_give_the_same_bits(tmp_path: Path) -> None:
    image = noise(61, 45)
    path = tmp_path / "a.png"
    image.save(path)
    tensors = [prepare(frame_of(source), SIZE) for source in (path, str(path), path.read_bytes())]
    tensors.append(prepare(frame_of(np.asarray(image)), SIZE))
    assert all(tensor.dtype == np.float32 and tensor.shape == (3, 32, 32) for tensor in tensors)
    assert len({tensor.tobytes() for tensor in tensors}) == 1


def test_it_writes_where_it_is_told(tmp_path: Path) -> None:
    out = np.full((3, 32, 32), np.nan, np.float32)
    assert prepare(frame_of(np.asarray(noise(40, 40))), SIZE, out) is out
    assert np.isfinite(out).all()


@pytest.mark.parametrize("size", [(120, 90), (61, 45), (36, 36), (9, 200), (200, 9)])
def test_pixels_are_prepared_as_a_picture_is(size: tuple[int, int], tmp_path: Path) -> None:
    image = noise(*size)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        prepare(frame_of(np.asarray(image)), SIZE), prepare(frame_of(tmp_path / "a.png"), SIZE)
    )


def test_pixels_of_a_camera_need_not_be_contiguous() -> None:
    bgr = np.asarray(noise(50, 40))
    np.testing.assert_array_equal(
        prepare(frame_of(bgr[..., ::-1]), SIZE), prepare(frame_of(bgr[..., ::-1].copy()), SIZE)
    )


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "alpha", "floats", "empty"],
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    frame = Frame("camera 0, frame 7", pixels)
    for look in (lambda: prepare(frame, SIZE), frame.check):
        with pytest.raises(UnreadablePicture, match=r"camera 0, frame 7: is .* expected RGB"):
            look()


def test_an_upload_that_is_no_picture_is_named(tmp_path: Path) -> None:
    frame = Frame("upload 3", b"no picture")
    with pytest.raises(UnreadablePicture, match="upload 3: not a picture"):
        prepare(frame, SIZE)
    with pytest.raises(UnreadablePicture, match="upload 3"):
        frame.check()
    good = io.BytesIO()
    noise(8, 8).save(good, "PNG")
    Frame("upload 4", good.getvalue()).check()


def test_identity_is_the_content(tmp_path: Path) -> None:
    content = io.BytesIO()
    noise(9, 7).save(content, "PNG")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content.getvalue())
    files = {Frame(name, tmp_path / name).identity() for name in ("a.png", "b.png")}
    assert files == {Frame("upload", content.getvalue()).identity()}
    pixels = np.asarray(noise(9, 7))
    of_pixels = Frame("camera", pixels).identity()
    assert of_pixels == Frame("other", pixels[::-1][::-1]).identity()
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert of_pixels != Frame("camera", changed).identity()
    # The same bytes in another shape are another picture.
    assert of_pixels != Frame("camera", pixels.reshape(9, 7, 3)).identity()


def test_a_frame_keeps_its_time() -> None:
    frame = Frame("camera 0", np.zeros((2, 2, 3), np.uint8), time_s=12.5)
    assert frame_of(frame) is frame
    assert frame.time_s == 12.5
