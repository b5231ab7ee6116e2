"""A state that a board wrote, read on the host by the board's own code (docs/bundle.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState
from mobiletl.export.finish.bundle_reader import HostBundle

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """Tensors by name, and the classes in the order of the logits."""

    tensors: dict[str, Array]
    class_names: tuple[str, ...]


def read_state(path: Path, bundle: HostBundle) -> State:
    """Raises BadState for a file that is missing, damaged, another bundle's, or of other shapes.

    A damaged file with a sound previous generation beside it is read from there, with a warning in
    the log, as boards do.
    """
    tensors, info = load_state(path, bundle.manifest)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadState(f"{path}: {name} holds NaN or infinity; name a state from before that")
    return State(tensors, info.class_names)
