"""A state that a board wrote, read on the host by the board's own code (docs/bundle.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState
from mobiletl.export.finish.bundle_reader import HostBundle

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """Tensors by name, the classes in the order of the logits, and how sure the answers are."""

    tensors: dict[str, Array]
    class_names: tuple[str, ...]
    answers: Answers | None = None


def calibrated(state: State, bundle: HostBundle) -> State:
    """The same with logits divided by the temperature: the classifier's rows are."""
    if state.answers is None:
        return state
    temperature = np.float32(state.answers.temperature)
    rows = {e.name for e in bundle.manifest.state if e.role == "parameter" and "K" in e.shape}
    tensors = {n: t / temperature if n in rows else t for n, t in state.tensors.items()}
    return replace(state, tensors=tensors)


def read_state(path: Path, bundle: HostBundle) -> State:
    """Raises BadState for a file that is missing, damaged, another bundle's, or of other shapes.

    A damaged file with a sound previous generation beside it is read from there, with a warning in
    the log, as boards do.
    """
    tensors, info = load_state(path, bundle.manifest)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadState(f"{path}: {name} holds NaN or infinity; name a state from before that")
    return State(tensors, info.class_names, info.answers)
