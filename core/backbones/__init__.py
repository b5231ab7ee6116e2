"""Backbones by name, one row per family.

`mbv2` is MobileNetV2 of width 1.0; `mbv2-0.35` multiplies its channels by 0.35. A network found by
search for one size has no widths.

To add one: a file with its table of blocks, a row below, and every test that runs over the table
covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.backbones.mcunet import ROWS as MCUNET_ROWS
from mobiletl.core.backbones.mcunet import McuNet5Fps
from mobiletl.core.backbones.mobilenetv2 import BLOCK_COUNT, MobileNetV2
from mobiletl.core.backbones.mobilenetv3 import LARGE, SMALL, MobileNetV3
from mobiletl.core.backbones.proxyless import ROWS as PROXYLESS_ROWS
from mobiletl.core.backbones.proxyless import ProxylessNasMobile
from mobiletl.core.errors import UnsupportedModel


@dataclass(frozen=True)
class Family:
    """A backbone at any width; `build` takes classes and width.

    `rename` turns a key of a weights file into the network's, where they differ.
    """

    name: str
    build: Callable[[int, float], IrbNetwork]
    blocks: int
    has_widths: bool = True
    rename: Callable[[str], str] = str


FAMILIES = (
    Family("mbv2", MobileNetV2, BLOCK_COUNT),
    Family(
        "mbv3-small",
        lambda classes, width: MobileNetV3(SMALL, classes, width),
        len(SMALL.rows),
    ),
    Family(
        "mbv3-large",
        lambda classes, width: MobileNetV3(LARGE, classes, width),
        len(LARGE.rows),
    ),
    Family("proxyless", ProxylessNasMobile, len(PROXYLESS_ROWS)),
    Family(
        "mcunet-5fps",
        lambda classes, _width: McuNet5Fps(classes),
        len(MCUNET_ROWS),
        has_widths=False,
    ),
)


@dataclass(frozen=True)
class Backbone:
    """A family at a width."""

    name: str
    family: Family
    width: float

    def build(self, classes: int) -> IrbNetwork:
        """The network with random weights."""
        return self.family.build(classes, self.width)


def find_backbone(name: str) -> Backbone:
    """`mbv2` or `mbv2-0.35`; UnsupportedModel lists the known families."""
    for family in FAMILIES:
        if name == family.name:
            return Backbone(name, family, 1.0)
        if name.startswith(f"{family.name}-"):
            return Backbone(name, family, _width(name, family))
    if ":" in name:
        raise UnsupportedModel(
            f"{name} is a network of somebody's own, and its name alone does not bring it back; "
            "expected path/to/FILE.py:FUNCTION (docs/own-network.md)"
        )
    known = ", ".join(f"{f.name} and {f.name}-WIDTH" if f.has_widths else f.name for f in FAMILIES)
    raise UnsupportedModel(f"no model is called {name!r}, expected one of: {known} (mbv2-0.35)")


def _width(name: str, family: Family) -> float:
    multiplier = name.removeprefix(f"{family.name}-")
    if not family.has_widths:
        raise UnsupportedModel(
            f"{family.name} has one width only, not {multiplier!r}; try --model {family.name}"
        )
    try:
        width = float(multiplier)
    except ValueError:
        width = 0.0
    # Below 0.1 every layer has 8 channels anyway; 4 is 30 times the work of 1.
    if not 0.1 <= width <= 4.0:
        raise UnsupportedModel(
            f"width {multiplier!r} in model {name!r}, expected 0.1 to 4; try {family.name}-0.35"
        )
    return width
