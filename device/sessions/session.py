"""The three functions of a bundle as one object; each runtime fills this class.

Letters: N pictures in a batch, n in a micro-batch, K classes, H x W the picture,
C x h x w the feature map, D the width of the embedding.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Mapping

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.schema import joined
from mobiletl.device.errors import BadState


@dataclass(frozen=True)
class StepResult:
    """What one step reports, both from the forward pass before the update."""

    loss: float
    """Mean cross-entropy of the batch; may be NaN or infinite, which the caller must check."""
    correct: int
    """How many of the N pictures had their largest logit at their label."""


@dataclass(frozen=True)
class Embedded:
    """What a prediction gives of N pictures, in inference mode."""

    logits: Floats
    """f32[N,K]."""
    embeddings: Floats
    """f32[N,D], what the last linear layer reads to give the logits."""


class Session(Closing):
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
    def embed(self, h: Floats) -> Embedded:
        """Map feature maps [N,C,h,w] to logits and embeddings: the bundle's `predict`."""

    def predict(self, h: Floats) -> Floats:
        """Map feature maps [N,C,h,w] to logits [N,K]; `embed` without what is not asked for."""
        return self.embed(h).logits

    @abstractmethod
    def state(self) -> Tensors:
        """Return every state entry (float32), in the manifest's order, read-only.

        The memory stays the session's and the next `train_step` overwrites it: copy what is to
        last. A copy made here would add a whole state to the peak of every save.
        """

    @abstractmethod
    def load(self, state: Mapping[str, Floats]) -> None:
        """Go on from a copy of `state`, every entry of it, as if opened with it.

        Nothing is loaded anew, so this takes no second session's memory. Each entry is asked for by
        itself, so a mapping that reads from a file takes no second state's. Raises BadState for
        entries that are missing, unknown or of another shape, and changes nothing then.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the runtime holds; the session cannot be used afterwards."""


def overwrite(own: Tensors, state: Mapping[str, Floats]) -> None:
    """Copy `state` into the memory of `own`; raises BadState where the two differ in form."""
    check_form(own, state)
    for name, tensor in own.items():
        tensor[...] = state[name]


def check_form(own: Tensors, state: Mapping[str, Floats]) -> None:
    """Raise BadState unless `state` has the names, shapes and types of `own`."""
    problems = [f"{name} is unknown" for name in state if name not in own]
    for name, tensor in own.items():
        if name not in state:
            problems.append(f"{name} is missing")
            continue
        found = state[name]  # once: it may be read from a file each time
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            problems.append(
                f"{name} is {found.dtype} {list(found.shape)}, "
                f"not {tensor.dtype} {list(tensor.shape)}"
            )
        del found  # or two of them would be in memory while the next one is read
    if problems:
        raise BadState(
            f"the state does not fit this session: {joined(problems)}; give it a state of the "
            "same bundle and of as many classes"
        )


def read_only(tensors: Tensors) -> Tensors:
    """The same memory, without the permission to write to it."""
    views = {name: tensor.view() for name, tensor in tensors.items()}
    for view in views.values():
        view.flags.writeable = False
    return views
