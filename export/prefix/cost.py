"""What 8 bits in the frozen layers cost, on pictures that nothing was calibrated on.

A classifier is taught in closed form on embeddings of the calibrating half of the pictures, once
from floats and once from bytes, and asked about the other half. Classes are the folders that the
pictures lie in. A board's training does more than that; what it can gain rests on the same maps.

Letters: P pictures, D the width of the embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Floats = npt.NDArray[np.float32]
# Of the mean of the Gram matrix's diagonal.
_PENALTY = 0.01


@dataclass(frozen=True)
class Cost:
    """Shares of the P checked pictures; None where their folders name fewer than two classes."""

    calibrated_on: int
    checked_on: int
    error: float
    """Of the embeddings: the norm of what changes, over their norm."""
    labels_changed: float | None
    accuracy_float: float | None
    accuracy_int8: float | None

    def document(self) -> dict[str, Any]:
        """As the manifest has it."""
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {"bits": 8, **rounded}


def measured_cost(
    floats: onnx.ModelProto,
    in_bytes: onnx.ModelProto,
    predict: onnx.ModelProto,
    state: Mapping[str, Floats],
    images: Sequence[Floats],
    labels: Sequence[str],
) -> Cost:
    """Compare two graphs of the frozen layers on `images`, f32[1,3,R,R] each, with their `labels`.

    Every other one, from the first on, is what the bytes were calibrated on. `state` is the
    state's first values, which `predict` takes beside the map.
    """
    above = _session(predict)
    wanted = {node.name for node in above.get_inputs()}
    fed = {name: value for name, value in state.items() if name in wanted}
    embedded = []
    for model in (floats, in_bytes):
        below = _session(model)
        rows = []
        for image in images:
            (h,) = below.run(["h"], {"images": image})
            rows.append(above.run(["embedding"], {**fed, "h": h})[0])
        embedded.append(np.concatenate(rows))
    taught, asked = slice(0, None, 2), slice(1, None, 2)
    difference = embedded[1][asked] - embedded[0][asked]
    size = float(np.linalg.norm(embedded[0][asked])) or 1.0
    error = float(np.linalg.norm(difference)) / size
    names = sorted(set(labels))
    classes = np.array([names.index(label) for label in labels])
    if len(set(classes[taught].tolist())) < 2:
        return Cost(len(images[taught]), len(images[asked]), error, None, None, None)
    found = [_answers(e[taught], classes[taught], e[asked], len(names)) for e in embedded]
    right = [float((answer == classes[asked]).mean()) for answer in found]
    changed = float((found[0] != found[1]).mean())
    return Cost(len(images[taught]), len(images[asked]), error, changed, *right)


def _answers(
    embeddings: Floats, labels: npt.NDArray[np.int64], asked: Floats, classes: int
) -> npt.NDArray[np.int64]:
    """The classes [P'] of `asked` f32[P',D] by ridge regression on `embeddings` f32[P,D]."""
    mean = embeddings.mean(axis=0)
    x, other = (embeddings - mean).astype(np.float64), (asked - mean).astype(np.float64)
    targets = 2.0 * np.eye(classes)[labels] - 1.0
    gram = x @ x.T
    penalty = _PENALTY * np.trace(gram) / len(gram) or 1.0
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), targets - targets.mean(axis=0))
    scores = other @ x.T @ weights + targets.mean(axis=0)
    answers: npt.NDArray[np.int64] = scores.argmax(axis=1)
    return answers


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
