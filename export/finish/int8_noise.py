"""Invented pictures to round weights on where nobody has given real ones.

What a layer's inputs have in common (which are large, which rise and fall together) comes mostly
from the network. Noise with the spectrum of photographs, amplitude 1/f (Field, J. Opt. Soc. Am. A
4, 1987), brings much of it out, white noise a little less (docs/finish.md has the figures).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobiletl.device.bundle.manifest import Input

COUNT = 64
# Photographs are mostly grey: red, green and blue are mixed of brightness and two opposed colours.
_COLOURS = np.array([[0.9, 0.3, 0.2], [0.9, 0.0, -0.2], [0.9, -0.3, 0.2]], np.float32)
_BRIGHTNESS_SPREAD = 0.8


def noise_pictures(size: Input) -> list[npt.NDArray[np.float32]]:
    """`COUNT` arrays [1,3,R,R], always the same; `size` is the manifest's `input`."""
    random = np.random.default_rng(0)
    side = size.resolution
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (size.mean, size.std))
    along = np.fft.fftfreq(side)
    frequency = np.hypot(along[:, None], along[None])
    frequency[0, 0] = np.inf
    pictures = []
    for _ in range(COUNT):
        planes = np.fft.ifft2(np.fft.fft2(random.standard_normal((3, side, side))) / frequency).real
        planes /= planes.std(axis=(1, 2), keepdims=True)
        mixed = np.einsum("oc,chw->ohw", _COLOURS, planes)
        mixed += _BRIGHTNESS_SPREAD * random.standard_normal()
        inside = mixed.clip(-mean / std, (1 - mean) / std)
        pictures.append(inside[None].astype(np.float32))
    return pictures
