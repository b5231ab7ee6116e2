"""A bundle's state and what onnxruntime-training keeps of it: the same numbers, other names.

The runtime has two moments per trained parameter and a step counter. A slot of the state is its
moment divided by that moment's unit; a scalar of it (Adam's bias correction) is 1 - beta^step. The
exporter writes units and betas into the checkpoint's properties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import StateEntry
from mobiletl.device.sessions.onnxruntime_training.checkpoint import Values

MOMENTS = ("momentum0", "momentum1")
# A float32 cannot say more of 1 - c, where c is close to 1.
SMALLEST = 2.0**-25


@dataclass(frozen=True)
class Slots:
    """How the optimizer's part of the state maps, for the entries of one manifest."""

    entries: tuple[StateEntry, ...]
    units: tuple[float, ...]
    betas: tuple[float, ...]

    def to_runtime(self, state: Tensors) -> Values:
        """Return the checkpoint's values; moments without a slot are zero."""
        tensors: Tensors = {e.name: state[e.name] for e in self.entries if e.role != "slot"}
        for entry in self.entries:
            if entry.role == "parameter":
                zeros = np.zeros_like(state[entry.name])
                tensors.update({f"{moment}/{entry.name}": zeros for moment in MOMENTS})
        for name, (moment, unit) in self._moments().items():
            tensors[moment] = state[name] * np.float32(unit)
        return Values(tensors, self._step(state))

    def to_state(self, values: Values) -> Tensors:
        """Return the state in the manifest's order, with memory of its own."""
        scalars = dict(zip(self._scalars(), self.betas))
        moments = self._moments()
        state: Tensors = {}
        for name in (entry.name for entry in self.entries):
            if name in scalars:
                state[name] = np.array(1.0 - scalars[name] ** values.step, np.float32)
            elif name in moments:
                moment, unit = moments[name]
                state[name] = values.tensors[moment] / np.float32(unit)
            else:
                state[name] = np.array(values.tensors[name])
        return state

    def _scalars(self) -> list[str]:
        return [e.name for e in self.entries if e.role == "slot" and "/" not in e.name]

    def _moments(self) -> dict[str, tuple[str, float]]:
        """Slot to moment and its unit; an optimizer's first kind of slot is the first moment."""
        slots = [e.name for e in self.entries if e.role == "slot" and "/" in e.name]
        kinds = dict.fromkeys(name.split("/", 1)[0] for name in slots)
        of_kind = dict(zip(kinds, zip(MOMENTS, self.units)))
        found = {}
        for name in slots:
            kind, owner = name.split("/", 1)
            moment, unit = of_kind[kind]
            found[name] = (f"{moment}/{owner}", unit)
        return found

    def _step(self, state: Tensors) -> int:
        """Return how many steps the state has behind it, from the slowest correction."""
        steps = [
            round(math.log(max(1.0 - float(state[name]), SMALLEST)) / math.log(beta))
            for name, beta in zip(self._scalars(), self.betas)
        ]
        return max(steps, default=0)
