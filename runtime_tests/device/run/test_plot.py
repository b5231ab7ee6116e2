"""The plot: lines where the numbers are, round ticks, any title."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from mobiletl.device.errors import NoSpace
from mobiletl.device.run import plot
from mobiletl.device.run.events import EpochMetrics
from mobiletl.device.run.plot import HEIGHT, TRAIN_COLOUR, VAL_COLOUR, WIDTH, draw_plot, ticks


def rows(epochs: int, val_accuracy: float = 0.5) -> list[EpochMetrics]:
    return [
        EpochMetrics(
            epoch, epoch, 0.2 if epoch else None, 0.9 if epoch else None, 0.4, val_accuracy,
            None, None, 1, 1, 1.0,
        )
        for epoch in range(epochs + 1)
    ]  # fmt: skip


def where(path: Path, colour: object, half: int) -> np.ndarray:
    """Return [pixels, (y, x)] of exactly `colour` in the left (0) or right (1) half, below
    the legend."""
    pixels = np.asarray(Image.open(path))[100:, half * WIDTH // 2 : (half + 1) * WIDTH // 2]
    return np.argwhere((pixels == np.array(colour)).all(axis=2)) + np.array([100, 0])


def test_lines_are_where_the_numbers_are(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    draw_plot(path, rows(10), "title")
    with Image.open(path) as image:
        assert image.size == (WIDTH, HEIGHT)
    top = plot.TITLE_HEIGHT + plot.MARGIN_TOP
    bottom = HEIGHT - plot.MARGIN_BOTTOM
    # The validation loss lies on the upper edge, outside of what `where` looks at.
    for half, colour, share in (
        (0, TRAIN_COLOUR, 0.5),
        (1, TRAIN_COLOUR, 0.9),
        (1, VAL_COLOUR, 0.5),
    ):
        found = where(path, colour, half)
        expected = bottom + (top - bottom) * share
        assert abs(np.median(found[:, 0]) - expected) < 2
    # Training begins at epoch 1, validation at 0.
    assert where(path, TRAIN_COLOUR, 1)[:, 1].min() > where(path, VAL_COLOUR, 1)[:, 1].min() + 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("epochs", [0, 1, 2, 1000])
def test_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    draw_plot(tmp_path / "plot.png", rows(epochs), "t")
    assert len(where(tmp_path / "plot.png", VAL_COLOUR, 1)) > 10


def test_no_rows(tmp_path: Path) -> None:
    draw_plot(tmp_path / "plot.png", [], "t")
    assert (tmp_path / "plot.png").exists()


def test_odd_title(tmp_path: Path) -> None:
    draw_plot(tmp_path / "plot.png", rows(1), "Grün 日本 \n \udcff" + "x" * 1000)
    assert (tmp_path / "plot.png").exists()


def test_without_a_scalable_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Pillow before 10.1, or without FreeType, has.
    bitmap = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()

    def old_load_default() -> object:
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", old_load_default)
    draw_plot(tmp_path / "plot.png", rows(3), "title")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (WIDTH, HEIGHT)
    assert len(where(tmp_path / "plot.png", VAL_COLOUR, 1)) > 100


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.7, [0.0, 0.2, 0.4, 0.6, 0.8]),
        (2.3, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (10, [0, 2, 4, 6, 8, 10]),
        (23, [0, 5, 10, 15, 20, 25]),
    ],
)
def test_ticks_are_round(high: float, expected: list[float]) -> None:
    assert ticks(high) == pytest.approx(expected)


@pytest.mark.parametrize("high", [0.0, 1e-12, 1e-3, 7.7, 99, 1e12])
def test_ticks_cover_everything(high: float) -> None:
    found = ticks(high)
    assert found[0] == 0
    assert found[-1] >= high
    assert 2 <= len(found) <= 8


def test_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="--out"):
        draw_plot(tmp_path / "gone" / "plot.png", rows(1), "t")
