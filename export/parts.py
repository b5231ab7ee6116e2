"""What is asked for, and what the exporter makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobiletl.core.backbones import Backbone
from mobiletl.core.methods import Method
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer


@dataclass(frozen=True)
class Request:
    """What a person asked for. `blocks` None takes the method's default."""

    model: str
    weights: str
    method: str
    blocks: int | None
    resolution: int
    optimizer: str
    out: Path


@dataclass(frozen=True)
class Parts:
    """The request made real: what the graphs and the manifest are written from."""

    request: Request
    backbone: Backbone
    method: Method
    transfer: Transfer
    step: TrainingStep
    feature_shape: tuple[int, int, int]
