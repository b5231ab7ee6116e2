"""How a camera's frame becomes the picture that is kept: turned, then cut out.

The view is kept with a data set and in a state, so that what was trained is what is seen later.
Letters: H x W a frame in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Tuple

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.schema import fields, list_of, number, one_of

# Left, top, width, height as shares of the turned frame, 0 to 1.
Region = Tuple[float, float, float, float]

WHOLE: Region = (0.0, 0.0, 1.0, 1.0)
TURNS = (0, 90, 180, 270)


@dataclass(frozen=True)
class View:
    """`rotate` is in degrees clockwise, one of `TURNS`; `region` is cut out afterwards."""

    rotate: int = 0
    region: Region = WHOLE

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ValueError("; ".join(problems))

    def problems(self) -> list[str]:
        """Say what makes no sense, in words that follow the name of a flag."""
        found = []
        if self.rotate not in TURNS:
            found.append(f"rotate is {self.rotate}, expected 0, 90, 180 or 270")
        left, top, width, height = self.region
        if not (left >= 0 and top >= 0 and width > 0 and height > 0) or (
            left + width > 1 + 1e-6 or top + height > 1 + 1e-6
        ):
            found.append(
                f"roi is {','.join(f'{share:g}' for share in self.region)}, expected left,top,"
                "width,height as shares of the frame within 0 and 1"
            )
        return found

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the view of RGB pixels uint8[H,W,3], contiguous; at least one pixel is left."""
        turned = np.rot90(pixels, -(self.rotate // 90)) if self.rotate else pixels
        height, width = turned.shape[:2]
        left, top, wide, high = self.region
        x, y = min(round(left * width), width - 1), min(round(top * height), height - 1)
        right = min(max(round((left + wide) * width), x + 1), width)
        bottom = min(max(round((top + high) * height), y + 1), height)
        return np.ascontiguousarray(turned[y:bottom, x:right])

    def flags(self) -> str:
        """Return the flags that ask for it, for messages."""
        region = ",".join(f"{share:g}" for share in self.region)
        return f"--rotate {self.rotate} --roi {region}"

    def document(self) -> dict[str, Any]:
        """What JSON says of it."""
        return {"rotate": self.rotate, "region": list(self.region)}


@dataclass(frozen=True)
class AskedView:
    """What a person asks for: a turn, a region, both, or neither; the rest is as it was."""

    rotate: int | None = None
    region: Region | None = None

    def over(self, view: View | None) -> View:
        """Return `view`, by default all of the frame, but for what is asked for."""
        former = view or View()
        return View(
            former.rotate if self.rotate is None else self.rotate,
            former.region if self.region is None else self.region,
        )


_VIEW = fields({"rotate": one_of(*TURNS), "region": list_of(number(minimum=0.0), length=4)})


def view_of(document: Any, path: str, problems: list[str]) -> View | None:
    """Read what `View.document` gave; None for a document that is None, or after adding to
    `problems`.
    """
    if document is None:
        return None
    found: list[str] = []
    _VIEW(document, path, found)
    if not found:
        left, top, width, height = (float(share) for share in document["region"])
        try:
            return View(document["rotate"], (left, top, width, height))
        except ValueError as error:
            found.append(f"{path}: {error}")
    problems += found
    return None
