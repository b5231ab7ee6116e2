"""From a bundle and a state to one ONNX file on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.finished_facts import METADATA, finished_facts
from mobiletl.device.bundle.levels import of_state
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import (
    BadBundle,
    BadState,
    InternalError,
    MissingDependency,
    NoSpace,
    UsageError,
)
from mobiletl.device.finishing.joined import EMBEDDING, IMAGES, LOGITS, chained, joined
from mobiletl.device.printable import printable
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.table import STOCK

if TYPE_CHECKING:
    import onnx

SUFFIX, LABELS = ".onnx", ".labels.txt"
# How far logits of order 1 may be from the bundle's own; the arithmetic is the same.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finished:
    """What was written; `difference` is the largest of a logit on noise, from the bundle's own."""

    path: Path
    labels: Path
    class_names: tuple[str, ...]
    resolution: int
    difference: float


def finish(
    bundle_path: Path,
    state_path: Path,
    out: Path | None = None,
    opset: int | None = None,
    softmax: bool = False,
) -> Finished:
    """Write the network of a state for inference, and its labels beside it, one on a line.

    `out` None is named after the state; `opset` and `softmax` are as for the host's command.

    The file takes `images` f32[N,3,R,R] and gives `logits` f32[N,K], calibrated, and `embedding`
    f32[N,D] where the state has a threshold for pictures of none of the classes. It is checked
    against the bundle's own graphs before it is written. Raises UsageError for an `out` that is
    there, BadBundle, BadState, NoSpace, MissingDependency.
    """
    onnx = _import_onnx()
    from mobiletl.device.finishing.opset import check_opset, in_opset, with_probabilities

    check_opset(opset)
    path = state_path.with_suffix(SUFFIX) if out is None else out
    _require_new(path)
    labels = path.with_suffix(LABELS)
    _require_free(labels)
    bundle = of_state(open_bundle(bundle_path), state_path)
    tensors, info = load_state(state_path, bundle.manifest)
    _require_finite(tensors, state_path)
    model = in_opset(_model(onnx, bundle, tensors, info.answers), opset)
    if softmax:
        model = with_probabilities(model)
    facts = finished_facts(bundle.manifest, info.class_names, info.answers)
    onnx.helper.set_model_props(model, {METADATA: facts})
    content: bytes = model.SerializeToString()
    del model
    difference = _difference(content, bundle, tensors, info.answers)
    _write(labels, "".join(f"{printable(name)}\n" for name in info.class_names).encode("utf-8"))
    _write(path, content)
    return Finished(path, labels, info.class_names, bundle.manifest.input.resolution, difference)


def _model(onnx: Any, bundle: Bundle, tensors: Tensors, answers: Answers | None) -> onnx.ModelProto:
    """Join the bundle's graphs with the state, its classifier's rows divided by the temperature."""
    files = bundle.manifest.runtimes.get(STOCK)
    if files is None:
        raise BadBundle(
            f"{bundle.path} has files for {', '.join(bundle.manifest.runtimes) or 'no runtime'}, "
            f"not for {STOCK}, whose graphs are joined; export it again with --runtimes {STOCK}"
        )
    *chain, predict = (
        onnx.load_from_string(bundle.file(files.files[role]).read_bytes())
        for role in (*files.chain, "predict")
    )
    temperature = np.float32(1.0 if answers is None else answers.temperature)
    entries = bundle.manifest.state
    rows = {entry.name for entry in entries if entry.role == "parameter" and "K" in entry.shape}
    state = {
        entry.name: tensors[entry.name] / temperature if entry.name in rows else tensors[entry.name]
        for entry in entries
        if entry.role != "slot"
    }
    tells_unknown = answers is not None and answers.unknown is not None
    return joined(
        chained(chain), predict, state, [LOGITS, EMBEDDING] if tells_unknown else [LOGITS]
    )


def _difference(content: bytes, bundle: Bundle, tensors: Tensors, answers: Answers | None) -> float:
    """Return how far the file's logits are from the bundle's, calibrated, on two noisy pictures.

    Raises InternalError where that is more than rounding.
    """
    import onnxruntime

    side = bundle.manifest.input.resolution
    images = np.random.default_rng(0).standard_normal((2, 3, side, side), np.float32)
    classes = len(next(tensors[e.name] for e in bundle.manifest.state if e.shape[:1] == ("K",)))
    with open_session(bundle, classes, tensors, 1, STOCK) as session:
        expected = session.predict(session.features(images)).copy()
    if answers is not None:
        expected /= np.float32(answers.temperature)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    finished = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: Floats = finished.run([LOGITS], {IMAGES: images})[0]
    difference = float(np.abs(found - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise InternalError(
            f"the finished network's logits differ from the bundle's by {difference:.2g}"
        )
    return difference


def _require_new(path: Path) -> None:
    if path.suffix != SUFFIX:
        raise UsageError(f"--out {path}: expected a name that ends in {SUFFIX}")
    _require_free(path)


def _require_free(path: Path) -> None:
    if path.exists():
        raise UsageError(f"--out {path} exists; remove it or choose another name")


def _require_finite(tensors: Tensors, path: Path) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadState(f"{path}: {name} holds NaN or infinity; name a state from before that")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise NoSpace(
            f"can't write {path}: {error.strerror or error}; free some space or choose another "
            "place with --out"
        ) from error


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            f"finishing on a board needs the package onnx, which cannot be imported ({error}); "
            "pip install onnx"
        ) from error
    return onnx
