"""Which crop of a picture an epoch sees: the central one, one of a few, or a fresh one.

A view is a number: 0 is the central crop, any other the random crop that is drawn from it and from
the picture's identity. So a view of a picture is the same in every run, whatever the seed and
whichever pictures came and went, and its feature map can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from PIL import Image

from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import central_crop, evaluated, evaluation_short_side
from mobiletl.device.pictures.augment import augmented, random_stream, training_short_side

CENTRAL = 0
# Digits of an identity, a SHA-256 in hex, that its draws begin with.
_DIGITS = 16


@dataclass(frozen=True)
class Views:
    """The views of a picture that take turns over the epochs; none stands for fresh ones."""

    numbers: tuple[int, ...]

    def of(self, identity: str, epoch: int) -> int:
        """Return the view of the picture `identity` that `epoch` sees; epoch 0 is for evaluation.

        Pictures begin with different views, so that a batch has some of each.
        """
        if epoch == 0:
            return self.numbers[0] if self.numbers else CENTRAL
        if not self.numbers:
            return epoch
        return self.numbers[(epoch + _number(identity)) % len(self.numbers)]

    def later(self, identity: str, epoch: int, last: int) -> list[int]:
        """Return the views that the epochs after `epoch`, to `last`, see of the picture `identity`,
        each once and none that `epoch` sees; none where every epoch sees a fresh one.
        """
        if not self.numbers:
            return []
        rounds = range(epoch + 1, min(last, epoch + len(self.numbers)) + 1)
        return [
            view
            for view in (self.of(identity, later) for later in rounds)
            if view != self.of(identity, epoch)
        ]


# A new crop in every epoch, and the same one in all.
FRESH = Views(())
ONLY_CENTRAL = Views((CENTRAL,))


def views(count: int) -> Views:
    """Return the central crop and `count` - 1 random ones; for 0, a fresh one in every epoch."""
    return Views(tuple(range(count)))


# Views that a picture is judged by where training sees fresh ones.
JUDGED = 6


def judged(training: Views) -> Views:
    """Return the views that pictures are judged by which are not trained on: those of `training`,
    the central one for evaluation among them.
    """
    return training if training.numbers else views(JUDGED)


def cut_views(
    frame: Frame, size: Input, identity: str, numbers: Sequence[int]
) -> list[Image.Image]:
    """Return the views `numbers` of `frame` as RGB of H x W, H = W the resolution.

    They are cut out of a picture that is decoded once, unless it is one that comes smaller where
    the central crop is all that is wanted. Raises UnreadablePicture.
    """
    if all(view == CENTRAL for view in numbers):
        return [central_crop(frame, size) for _ in numbers]
    whole = frame.decode(training_short_side(size))
    halved = (min(whole.size) + 1) // 2
    shared = halved < evaluation_short_side(size)

    def cut(view: int) -> Image.Image:
        if view != CENTRAL:
            return augmented(whole, size, random_stream(_number(identity), view))
        return evaluated(whole, size) if shared else central_crop(frame, size)

    return [cut(view) for view in numbers]


def _number(identity: str) -> int:
    return int(identity[:_DIGITS], 16)
