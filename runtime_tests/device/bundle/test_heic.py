"""Phones' HEIC: decoded where pillow-heif is installed, named with its way out where not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.colours import reduced
from mobiletl.device.bundle.decode import UnreadablePicture, check_header, decode
from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import open_dataset

# The start of such a file: a box of 24 bytes, `ftyp`, the brand, and brands it is compatible with.
START = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"


@pytest.fixture
def without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.mark.usefixtures("without_its_package")
def test_it_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "IMG_0001.HEIC"
    file.write_bytes(START)
    words = r'a HEIC picture, which needs another package: pip install "mobiletl\[heic\]"'
    for read in (check_header, lambda path: decode(path, 8)):
        with pytest.raises(UnreadablePicture, match=words):
            read(file)


@pytest.mark.usefixtures("without_its_package")
def test_a_folder_of_them_says_so(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IMG_0001.HEIC").write_bytes(START)
    with pytest.raises(BadPictures, match=r"'cat' \(unreadable files: 1, the first: a HEIC"):
        open_dataset(tmp_path, 0.2, 0)


def test_what_only_begins_like_one_is_damaged(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    file = tmp_path / "broken.heic"
    file.write_bytes(START)
    with pytest.raises(UnreadablePicture):
        decode(file, 8)


def test_other_files_of_that_family_are_no_pictures(tmp_path: Path) -> None:
    file = tmp_path / "film.mp4"
    file.write_bytes(START.replace(b"ftypheic", b"ftypisom"))
    with pytest.raises(UnreadablePicture, match="not a picture in a known format"):
        check_header(file)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_one_is_reduced_to_what_pillow_makes_of_it(
    tmp_path: Path, orientation: int, mode: str
) -> None:
    heif = pytest.importorskip("pillow_heif")
    colours = np.random.default_rng(0).integers(0, 256, (30, 45, 4), np.uint8)
    # An odd width: the decoder's rows are longer than the picture.
    whole = Image.fromarray(colours).resize((637, 401), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "IMG_0001.HEIC"
    heif.register_heif_opener()
    whole.save(file, "HEIF", quality=95, exif=exif.tobytes())
    with Image.open(file) as image:
        expected = np.asarray(reduced(image, 4))
    found = np.asarray(decode(file, 100))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("orientation", [1, 6])
def test_it_is_decoded_upright(tmp_path: Path, orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    wide = np.zeros((64, 96, 3), np.uint8)
    wide[:, 48:] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "IMG_0001.HEIC"
    heif.register_heif_opener()
    Image.fromarray(wide).save(file, "HEIF", quality=95, exif=exif.tobytes())
    check_header(file)
    found = np.asarray(decode(file, 96)).astype(int)
    expected = wide if orientation == 1 else np.rot90(wide, -1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 6
