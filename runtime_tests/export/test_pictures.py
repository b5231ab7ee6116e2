"""Pictures to calibrate on are what a board's predictor sees, bit for bit; the rest is listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.errors import BadPictures
from mobiletl.device.prediction.predictor import Predictor, open_predictor
from mobiletl.device.run.start import bundle_start
from mobiletl.export.pictures import picture_files, prepared
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Floats = NDArray[np.float32]


def noise(*shape: int, most: int = 256) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, most, shape)


def write_odd_pictures(folder: Path) -> list[Path]:
    """One of each kind that two decoders are likely to see otherwise."""
    folder.mkdir()
    rgb = Image.fromarray(noise(37, 53, 3).astype(np.uint8))
    rgb.save(folder / "plain.jpg", quality=90)
    rgb.resize((211, 97)).save(folder / "reduced.jpg", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=turned)
    rgb.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(noise(40, 31, most=65536).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(noise(24, 24, 4).astype(np.uint8), "RGBA").save(folder / "clear.png")
    rgb.save(folder / "page.tiff")
    rgb.convert("P").save(folder / "few.gif")
    Image.fromarray(noise(5, 90, 3).astype(np.uint8)).save(folder / "long.png")
    return sorted(folder.iterdir())


def seen_by(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[Floats]:
    """What the predictor gives its network, as it gives it."""
    seen: list[Floats] = []
    features = predictor._session.features

    def watched(images: Floats) -> Floats:
        seen.append(images.copy())
        return features(images)

    monkeypatch.setattr(predictor._session, "features", watched)
    return seen


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_host_and_board_agree_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle", graphs=False))
    files = write_odd_pictures(tmp_path / "photos")
    assert picture_files(tmp_path / "photos") == files
    start = bundle_start(bundle, ("a", "b"), seed=0)
    with open_predictor(bundle, start, runtime="fake") as predictor:
        seen = seen_by(predictor, monkeypatch)
        for file in files:
            predictor.predict(file)
    found = prepared(files, bundle.manifest.input)
    assert found.skipped == ()
    assert len(found.images) == len(seen) == len(files)
    for file, one, other in zip(files, found.images, seen, strict=True):
        assert one.tobytes() == other.tobytes(), file.name
    deep = found.images[[file.name for file in files].index("deep.png")]
    assert np.unique(deep).size > 10  # not white throughout


def test_a_broken_picture_is_left_out_and_listed(tmp_path: Path) -> None:
    """A chunk whose checksum is wrong: Pillow raises what it likes for those."""
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle", graphs=False))
    Image.fromarray(noise(20, 20, 3).astype(np.uint8)).save(tmp_path / "good.png")
    content = bytearray((tmp_path / "good.png").read_bytes())
    content[45:60] = bytes(15)
    (tmp_path / "broken.png").write_bytes(content)
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    files = [tmp_path / name for name in ("broken.png", "good.png", "text.jpg")]
    found = prepared(files, bundle.manifest.input)
    assert len(found.images) == 1
    assert [line.partition(": ")[0] for line in found.skipped] == [str(files[0]), str(files[2])]
    with pytest.raises(BadPictures, match="none of the 2 pictures to calibrate on can be read"):
        prepared([files[0], files[2]], bundle.manifest.input)


@pytest.mark.parametrize(("files", "used"), [(5, 5), (384, 384), (397, 384), (2000, 384)])
def test_as_many_as_may_be_are_used_and_spread_over_all(
    tmp_path: Path, files: int, used: int
) -> None:
    for number in range(files):
        (tmp_path / f"{number:04d}.jpg").touch()
    found = [int(path.stem) for path in picture_files(tmp_path)]
    assert len(set(found)) == len(found) == used
    steps = np.diff(found)
    assert steps.max() - steps.min() <= 1
    assert found[0] == 0
    assert found[-1] >= files - 1 - files // used
