"""The arrays that bundles, states and sessions exchange."""

from __future__ import annotations

from typing import Dict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Pixels = NDArray[np.uint8]
# An alias is evaluated, so on Python 3.8 it cannot be written `dict[str, Floats]`.
Tensors = Dict[str, Floats]
