"""A session in NumPy for tests and dry runs: softmax regression on average-pooled pictures.

It needs no runtime and no graph, works with any manifest whose state has a classifier (a
parameter [K,C] and one [K], C the channels of the feature map), and really learns by plain
gradient descent. The embedding is the average, so its width D is C. All other state entries keep
their values.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadBundle
from mobiletl.device.sessions.session import Embedded, Session, StepResult, overwrite, read_only


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int, activations: int = 0
) -> FakeSession:
    """Open the fake; `classes` is in the state's shapes, the others have no meaning here."""
    del classes, threads, activations
    return FakeSession(bundle.manifest, state)


class FakeSession(Session):
    """Channel c of the feature map is picture channel c mod 3, averaged to h x w."""

    def __init__(self, manifest: Manifest, state: Tensors) -> None:
        self._feature_shape = manifest.feature.shape
        self._state = {entry.name: np.array(state[entry.name]) for entry in manifest.state}
        self._weight, self._bias = _classifier_names(manifest)

    def features(self, images: Floats) -> Floats:
        """See Session; H and W must be multiples of h and w."""
        channels, rows, columns = self._feature_shape
        n, _, height, width = images.shape
        blocks = images.reshape(n, 3, rows, height // rows, columns, width // columns)
        pooled = blocks.mean(axis=(3, 5), dtype=np.float32)
        return np.ascontiguousarray(pooled[:, np.arange(channels) % 3])

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """See Session."""
        before = self.embed(h)
        logits, pooled = before.logits, before.embeddings
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        rows = np.arange(len(labels))
        gradient = np.exp(log_softmax)
        gradient[rows, labels] -= 1.0
        gradient /= len(labels)
        self._state[self._weight] -= np.float32(lr) * (gradient.T @ pooled)
        self._state[self._bias] -= np.float32(lr) * gradient.sum(axis=0)
        return StepResult(
            loss=float(-log_softmax[rows, labels].mean()),
            correct=int((logits.argmax(axis=1) == labels).sum()),
        )

    def embed(self, h: Floats) -> Embedded:
        """See Session."""
        pooled: Floats = h.mean(axis=(2, 3), dtype=np.float32)
        return Embedded(pooled @ self._state[self._weight].T + self._state[self._bias], pooled)

    def state(self) -> Tensors:
        """See Session."""
        return read_only(self._state)

    def load(self, state: Mapping[str, Floats]) -> None:
        """See Session."""
        overwrite(self._state, state)

    def close(self) -> None:
        """Nothing is held outside Python."""


def _classifier_names(manifest: Manifest) -> tuple[str, str]:
    """Return the names of the classifier's weight [K,C] and bias [K]."""
    channels = manifest.feature.shape[0]
    parameters = [entry for entry in manifest.state if entry.role == "parameter"]
    weights = [entry.name for entry in parameters if entry.shape == ("K", channels)]
    biases = [entry.name for entry in parameters if entry.shape == ("K",)]
    if len(weights) != 1 or len(biases) != 1:
        raise BadBundle(
            f"the fake runtime needs one parameter ['K', {channels}] and one ['K'], "
            f"found {weights} and {biases}; choose another runtime"
        )
    return weights[0], biases[0]
