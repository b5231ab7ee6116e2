"""How many labels another version of a network changes, measured on pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Of `pictures`, `changed` get another label. `expected` is the share to reckon with."""

    pictures: int
    changed: int
    expected: float


def logits_of(model: onnx.ModelProto, images: list[Floats]) -> Floats:
    """[N,K] for N pictures [1,3,R,R]."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run(["logits"], {"images": image})[0] for image in images])


def agreement(wanted: Floats, found: Floats) -> Agreement:
    """Compare logits [N,K] of the float network with those of another.

    A label changes where the lead of its class over all others shrinks by more than it is. Few
    pictures hold few such cases, so `expected` pairs every lead with every shrinking that was
    seen: N * N cases instead of N.
    """
    label = wanted.argmax(axis=1)
    lead = _lead(wanted, label)
    shrinking = lead - _lead(found, label)
    changed = int((label != found.argmax(axis=1)).sum())
    return Agreement(len(wanted), changed, float((shrinking[:, None] > lead).mean()))


def _lead(logits: Floats, label: npt.NDArray[np.intp]) -> Floats:
    """By how much [N] the logit of `label` [N] is above the largest other one."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, label] = -np.inf
    return np.asarray(logits[rows, label] - others.max(axis=1), np.float32)
