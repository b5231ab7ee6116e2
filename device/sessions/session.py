"""The three functions of a bundle as one object; each runtime fills this class.

Letters: N pictures in a batch, n in a micro-batch, K classes, H x W the picture,
C x h x w the feature map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Dict, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
# An alias is evaluated, so on Python 3.8 it cannot be written `dict[str, Floats]`.
Tensors = Dict[str, Floats]

SessionType = TypeVar("SessionType", bound="Session")


@dataclass(frozen=True)
class StepResult:
    """What one step reports, both from the forward pass before the update."""

    loss: float
    """Mean cross-entropy of the batch; may be NaN or infinite, which the caller must check."""
    correct: int
    """How many of the N pictures had their largest logit at their label."""


class Session(ABC):
    """A loaded bundle with its own copy of the state; a context manager."""

    batch: int | None = None
    """The N that `train_step` takes; None takes any. The other functions take any number."""

    @abstractmethod
    def features(self, images: Floats) -> Floats:
        """Map normalised pictures [n,3,H,W] to feature maps [n,C,h,w]."""

    @abstractmethod
    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """Take one optimizer step on feature maps [N,C,h,w] and labels [N] (0 <= label < K)."""

    @abstractmethod
    def predict(self, h: Floats) -> Floats:
        """Map feature maps [N,C,h,w] to logits [N,K] in inference mode."""

    @abstractmethod
    def state(self) -> Tensors:
        """Return every state entry (float32), in the manifest's order, read-only.

        The memory stays the session's and the next `train_step` overwrites it: copy what is to
        last. A copy made here would add a whole state to the peak of every save.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the runtime holds; the session cannot be used afterwards."""

    def __enter__(self: SessionType) -> SessionType:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_only(tensors: Tensors) -> Tensors:
    """The same memory, without the permission to write to it."""
    views = {name: tensor.view() for name, tensor in tensors.items()}
    for view in views.values():
        view.flags.writeable = False
    return views
