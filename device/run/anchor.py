"""The pull of a step back to where its run began: the proximal term of FedProx.

Boards of a fleet that see different pictures drift apart between two rounds. FedProx (Li et al.,
MLSys 2020, arXiv 1812.06127) adds mu/2 |w - w0|^2 to the loss of each. The exported step has a loss
of its own, so the term's gradient is applied after it, w -= lr mu (w - w0), as decoupled weight
decay is: the two are the same for SGD up to one step of w, and Adam does not rescale the pull.
"""

from __future__ import annotations

from typing import Iterator, Mapping

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.sessions.session import Session


class Anchor:
    """The parameters w0 that a run began from, of which it holds a copy."""

    def __init__(self, manifest: Manifest, state: Tensors, mu: float) -> None:
        """`mu` is that of FedProx, above 0. Statistics and slots are pulled nowhere."""
        self._mu = mu
        names = [entry.name for entry in manifest.state if entry.role == "parameter"]
        self._began = {name: state[name].copy() for name in names}

    def pull(self, session: Session, lr: float) -> None:
        """Pull the session's parameters back by what a step with the rate `lr` does."""
        # More than the whole way would overshoot.
        session.load(_Pulled(session.state(), self._began, min(lr * self._mu, 1.0)))


class _Pulled(Mapping[str, Floats]):
    """Entries that are computed when they are asked for: no second state is ever held."""

    def __init__(self, state: Tensors, began: Tensors, share: float) -> None:
        self._state = state
        self._began = began
        self._share = share

    def __getitem__(self, name: str) -> Floats:
        now = self._state[name]
        began = self._began.get(name)
        if began is None:
            return now
        pulled: Floats = now + (began - now) * began.dtype.type(self._share)
        return pulled

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)
