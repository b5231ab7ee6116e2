"""Backbones by name, one row per family.

`mbv2` is MobileNetV2 of width 1.0; `mbv2-0.35` multiplies its channels by 0.35.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.mobilenetv2 import BLOCK_COUNT, MobileNetV2


@dataclass(frozen=True)
class Family:
    """A backbone at any width; `build` takes classes and width."""

    name: str
    build: Callable[[int, float], MobileNetV2]
    blocks: int


FAMILIES = (Family("mbv2", MobileNetV2, BLOCK_COUNT),)


@dataclass(frozen=True)
class Backbone:
    """A family at a width."""

    name: str
    family: Family
    width: float

    def build(self, classes: int) -> MobileNetV2:
        """The network with random weights."""
        return self.family.build(classes, self.width)


def find_backbone(name: str) -> Backbone:
    """`mbv2` or `mbv2-0.35`; UnsupportedModel lists the known families."""
    family_name, dash, multiplier = name.partition("-")
    for family in FAMILIES:
        if family.name == family_name:
            return Backbone(name, family, _width(name, multiplier) if dash else 1.0)
    known = ", ".join(f"{family.name} and {family.name}-WIDTH" for family in FAMILIES)
    raise UnsupportedModel(f"no model is called {name!r}, expected one of: {known} (mbv2-0.35)")


def _width(name: str, multiplier: str) -> float:
    try:
        width = float(multiplier)
    except ValueError:
        width = 0.0
    # Below 0.1 every layer has 8 channels anyway; 4 is 30 times the work of 1.
    if not 0.1 <= width <= 4.0:
        raise UnsupportedModel(
            f"width {multiplier!r} in model {name!r}, expected 0.1 to 4; try mbv2-0.35"
        )
    return width
