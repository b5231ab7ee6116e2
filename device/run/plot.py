"""Draws loss and accuracy against epochs into a PNG, with nothing but Pillow."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence, Tuple, Union

from PIL import Image, ImageDraw, ImageFont

from mobiletl.device.bundle.replacing import replacing
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.events import EpochMetrics

# Lengths are pixels of the finished picture.
WIDTH, HEIGHT = 960, 420
TITLE_HEIGHT = 38
PANEL_WIDTH, PANEL_HEIGHT = WIDTH // 2, HEIGHT - TITLE_HEIGHT
BAND_HEIGHT = 64
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 62, 24, 38, 56
FONT_SIZE = 14
# Drawn this much larger and averaged down, which smooths lines and letters.
SMOOTHING = 2
TICKS = 5
TITLE_LIMIT = 100

WHITE, INK, GRID = (255, 255, 255), (40, 40, 40), (224, 224, 224)
TRAIN_COLOUR, VAL_COLOUR = (31, 119, 180), (214, 89, 0)

Point = Tuple[float, float]
Colour = Tuple[int, int, int]
Font = Union[ImageFont.ImageFont, ImageFont.FreeTypeFont]


@dataclass(frozen=True)
class Series:
    """One line of a panel: points (epoch, value)."""

    name: str
    colour: Colour
    points: Sequence[Point]


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `top` is the highest value, None where the data decides."""

    title: str
    series: Sequence[Series]
    top: float | None
    label: Callable[[float], str]


def draw_plot(path: Path, rows: Sequence[EpochMetrics], title: str) -> None:
    """Write the plot of `rows` to `path`; raises NoSpace."""
    font = _font(FONT_SIZE * SMOOTHING)
    plot = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
    heading = _Canvas(WIDTH, TITLE_HEIGHT, font)
    # The font Pillow brings along has no more than Latin letters.
    heading.text((MARGIN_LEFT, 24), printable(title, "ascii")[:TITLE_LIMIT], 0.0)
    plot.paste(heading.finished(), (0, 0))
    last_epoch = max([1, *(row.epoch for row in rows)])
    for place, panel in enumerate(_panels(rows)):
        # In bands: a board pays for every enlarged pixel with four bytes.
        for top in range(0, PANEL_HEIGHT, BAND_HEIGHT):
            height = min(BAND_HEIGHT, PANEL_HEIGHT - top)
            canvas = _Canvas(PANEL_WIDTH, height, font, top)
            _draw_panel(canvas, panel, last_epoch)
            plot.paste(canvas.finished(), (place * PANEL_WIDTH, TITLE_HEIGHT + top))
    content = io.BytesIO()
    plot.save(content, "PNG")
    try:
        with replacing(path) as stream:
            stream.write(content.getvalue())
    except OSError as error:
        raise cannot_write("the plot", path, error) from error


def ticks(high: float) -> list[float]:
    """Return about TICKS round values from 0 to `high` or just above it."""
    rough = max(high, 1e-9) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    # The factors reach a little further than rough / power can, for the sake of rounding.
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough * 0.999)
    count = max(math.ceil(high / step - 1e-9), 1)
    return [index * step for index in range(count + 1)]


class _Canvas:
    """A picture with coordinates in finished pixels, whatever it is drawn at; its first row is
    `top`.
    """

    def __init__(self, width: int, height: int, font: Font, top: int = 0) -> None:
        self._font = font
        self._top = top
        # Pillow's other font has one size; averaged down it could not be read.
        self._scale = SMOOTHING if isinstance(font, ImageFont.FreeTypeFont) else 1
        self._image = Image.new("RGB", (width * self._scale, height * self._scale), WHITE)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], colour: Colour, width: int = 1) -> None:
        scaled = [self._scaled(x, y) for x, y in points]
        self._draw.line(scaled, fill=colour, width=width * self._scale, joint="curve")

    def dot(self, point: Point, colour: Colour, radius: float = 3.0) -> None:
        x, y = point
        corners = [self._scaled(x - radius, y - radius), self._scaled(x + radius, y + radius)]
        self._draw.ellipse(corners, fill=colour)

    def text(self, point: Point, text: str, across: float, down: float = 0.5) -> None:
        """Write `text`; `point` is at the share `across` of its width, `down` of its height."""
        x = point[0] - across * self.text_width(text)
        y = point[1] - down * FONT_SIZE * 1.2
        self._draw.text(self._scaled(x, y), text, fill=INK, font=self._font)

    def text_width(self, text: str) -> float:
        return self._draw.textlength(text, font=self._font) / self._scale

    def _scaled(self, x: float, y: float) -> Point:
        return x * self._scale, (y - self._top) * self._scale

    def finished(self) -> Image.Image:
        return self._image.reduce(self._scale)


def _font(size: int) -> Font:
    """Return a font of `size` pixels; Pillow before 10.1, or without FreeType, has only one."""
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError):
        return ImageFont.load_default()


def _panels(rows: Sequence[EpochMetrics]) -> list[Panel]:
    def points(name: str) -> list[Point]:
        pairs = [(row.epoch, getattr(row, name)) for row in rows]
        return [(float(epoch), float(value)) for epoch, value in pairs if value is not None]

    def series(quantity: str) -> list[Series]:
        return [
            Series("training", TRAIN_COLOUR, points(f"train_{quantity}")),
            Series("validation", VAL_COLOUR, points(f"val_{quantity}")),
        ]

    return [
        Panel("loss (cross-entropy)", series("loss"), None, "{:.3g}".format),
        Panel("accuracy", series("accuracy"), 1.0, "{:.0%}".format),
    ]


def _draw_panel(canvas: _Canvas, panel: Panel, last_epoch: int) -> None:
    x0, x1 = MARGIN_LEFT, PANEL_WIDTH - MARGIN_RIGHT
    y0, y1 = PANEL_HEIGHT - MARGIN_BOTTOM, MARGIN_TOP
    values = [value for series in panel.series for _, value in series.points]
    y_ticks = ticks(panel.top or max(values, default=1.0))

    def place(epoch: float, value: float) -> Point:
        return x0 + (x1 - x0) * epoch / last_epoch, y0 + (y1 - y0) * value / y_ticks[-1]

    for value in y_ticks:
        x, y = place(0, value)
        canvas.line([(x, y), place(last_epoch, value)], GRID)
        canvas.text((x - 8, y), panel.label(value), 1.0)
    for epoch in range(0, last_epoch + 1, max(1, round(ticks(last_epoch)[1]))):
        x, y = place(epoch, 0)
        canvas.line([(x, y), (x, y + 5)], INK)
        canvas.text((x, y + 16), str(epoch), 0.5)
    canvas.line([place(0, y_ticks[-1]), place(0, 0), place(last_epoch, 0)], INK)
    canvas.text(((x0 + x1) / 2, PANEL_HEIGHT - 18), "epoch", 0.5)
    canvas.text((x0, y1 - 18), panel.title, 0.0)
    for series in panel.series:
        points = [place(epoch, value) for epoch, value in series.points]
        if len(points) > 1:
            canvas.line(points, series.colour, 2)
        for point in points:
            canvas.dot(point, series.colour)
    _draw_legend(canvas, panel.series, x1, y1 - 18)


def _draw_legend(canvas: _Canvas, entries: Sequence[Series], right: float, y: float) -> None:
    """Put the names above the axes at the right, where no line can run through them."""
    for series in reversed(entries):
        canvas.text((right, y), series.name, 1.0)
        right -= canvas.text_width(series.name) + 6
        canvas.line([(right - 18, y), (right, y)], series.colour, 3)
        right -= 32
