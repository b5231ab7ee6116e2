"""From a frame to the tensor that `features` takes: decode, resize, crop, normalise.

`prepare` is the one way in which pictures are made ready for evaluation, on boards and on hosts, so
that both give the same bits. It follows torchvision's Resize and CenterCrop with Pillow's
antialiased bilinear filter. Letters: H = W = resolution in pixels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.resizing import Source, resized_part, size_of

# Longer pictures than this, long side to short side, are cut before they are resized.
LONGEST = 4


def prepare(frame: Frame, size: Input, out: Floats | None = None) -> Floats:
    """Return the central crop of `frame` as f32[3,H,W], in `out` if that is given.

    Raises UnreadablePicture for a frame that cannot be decoded.
    """
    filled = np.empty((3, size.resolution, size.resolution), np.float32) if out is None else out
    normalise(central_crop(frame, size), size, filled)
    return filled


def central_crop(frame: Frame, size: Input) -> Image.Image:
    """Return the central crop of `frame`, RGB of H x W; raises UnreadablePicture."""
    pixels = frame.pixels()
    return evaluated(frame.decode(evaluation_short_side(size)) if pixels is None else pixels, size)


def evaluation_short_side(size: Input) -> int:
    """Pixels a picture's short side needs at evaluation.

    Twice the resized side: the decoder's own halving is a plain average, and with this reserve the
    antialiasing filter decides how the result looks.
    """
    return 2 * size.resize


def evaluated(source: Source, size: Input) -> Image.Image:
    """Return the central crop of `source`, RGB of H x W.

    The picture is resized so that its short side is `size.resize`, then cropped. Of a very long
    picture only the middle is resized: the crop shows no more, and 1 x 20000 pixels would become
    256 x 5120000.
    """
    if max(size_of(source)) > LONGEST * min(size_of(source)):
        image = Image.fromarray(source) if isinstance(source, np.ndarray) else source
        source = _central(image, *(min(side, LONGEST * min(image.size)) for side in image.size))
    width, height = size_of(source)
    resized = (
        int(size.resize * width / min(width, height)),
        int(size.resize * height / min(width, height)),
    )
    side = size.resolution
    return resized_part(source, resized, _corner(resized, (side, side)), (side, side))


def normalise(image: Image.Image, size: Input, out: Floats) -> None:
    """Write (x / 255 - mean) / std per channel of an RGB picture of H x W to `out` f32[3,H,W]."""
    out[...] = np.asarray(image, np.uint8).transpose(2, 0, 1)
    out /= np.float32(255)
    out -= np.asarray(size.mean, np.float32)[:, None, None]
    out /= np.asarray(size.std, np.float32)[:, None, None]


def _central(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut out the middle, placed as torchvision's CenterCrop places it."""
    left, top = _corner(image.size, (width, height))
    return image.crop((left, top, left + width, top + height))


def _corner(whole: tuple[int, int], part: tuple[int, int]) -> tuple[int, int]:
    """Return left and top of the middle."""
    return round((whole[0] - part[0]) / 2), round((whole[1] - part[1]) / 2)
