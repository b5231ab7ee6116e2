"""What a network needs of a picture, and how much memory the picture may take for it."""

from __future__ import annotations

from dataclasses import dataclass

from mobiletl.device.bundle.decode import DECODING_LIMIT
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import evaluation_short_side
from mobiletl.device.pictures.augment import training_short_side


@dataclass(frozen=True)
class Needs:
    """What a picture has to be good for: its short side in pixels, and `limit` bytes to decode."""

    short_side: int = 512
    limit: int = DECODING_LIMIT


def needs_of(size: Input, limit: int = DECODING_LIMIT) -> Needs:
    """Return the needs of training, which sees crops of a picture, and of evaluation."""
    return Needs(max(evaluation_short_side(size), training_short_side(size)), limit)
