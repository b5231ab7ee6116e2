"""A real bundle of a few kilobytes, for tests: fixed features and a trained softmax regression.

features: 4x4 average pool, then a 1x1 convolution that repeats the three channels (C = 6).
train_step: x = mean over the map - running mean; logits = x W' + b; SGD with momentum. The
embedding is x, and its width C.
It has every role and every way to initialise an entry, so it exercises all of `docs/bundle.md`.
Letters: N pictures, K classes, C = 6 channels, 8 x 8 pictures, 2 x 2 feature maps.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mobiletl.device.bundle.digest import manifest_id

CHANNELS = 6
MOMENTUM = 0.9
KEEP = 0.9  # of the running mean, per step
WEIGHT, BIAS, MEAN = "classifier.1.weight", "classifier.1.bias", "features.0.running_mean"
SLOT = "sgd.momentum/"
STATE = (
    {"name": WEIGHT, "role": "parameter", "shape": ["K", CHANNELS], "init": "normal:0.01"},
    {"name": BIAS, "role": "parameter", "shape": ["K"], "init": "zeros"},
    {"name": MEAN, "role": "statistic", "shape": [CHANNELS], "init": "file"},
    {"name": SLOT + WEIGHT, "role": "slot", "shape": ["K", CHANNELS], "init": "zeros"},
    {"name": SLOT + BIAS, "role": "slot", "shape": ["K"], "init": "zeros"},
)
FUNCTIONS = ("features", "train_step", "predict")


def write_tiny_bundle(folder: Path, graphs: bool = True, **changed: Any) -> Path:
    """Write the bundle into `folder`; without `graphs` it serves the fake runtime alone.

    `changed` are keys of the manifest that are to be otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.linspace(-0.1, 0.1, CHANNELS, dtype=np.float32)
    save_file({MEAN: stored}, str(folder / "state.safetensors"))
    if graphs:
        _write_graphs(folder / "onnxruntime")
    write_manifest(folder, {**tiny_document(folder), **changed})
    return folder


def tiny_document(folder: Path) -> dict[str, Any]:
    """Return the manifest of the files now in `folder`, complete but for its `id`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    graphs = (folder / "onnxruntime").is_dir()
    per_class = {"fixed": 0, "per_class": CHANNELS + 1}
    slots = {"fixed": 0, "per_class": 4 * (CHANNELS + 1)}
    nothing = {"weights": 0, "activations": [[8, 48, 0, 24]]}
    return {
        "format": "mobiletl-bundle",
        "version": 5,
        "id": "",
        "created_by": "mobiletl 0.1.0",
        "model": {"name": "tiny", "width": 1.0, "weights": "none", "blocks": 1},
        "method": {"name": "ft-last", "blocks": 0, "trains": ["classifier"]},
        "input": {"resolution": 8, "resize": 9, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "feature": {"shape": [CHANNELS, 2, 2]},
        "embedding": {"size": CHANNELS},
        "frozen": "5" * 64,
        "optimizer": {
            "name": "sgd",
            "momentum": MOMENTUM,
            "weight_decay": 0.0,
            "default_lr": 0.5,
        },
        "state": [{**entry, "dtype": "float32"} for entry in STATE],
        "runtimes": {
            "onnxruntime": {
                "files": {name: f"onnxruntime/{name}.onnx" for name in FUNCTIONS},
                "batch": None,
                "classes": None,
                "memory": {},
            }
        }
        if graphs
        else {},
        "parameters": {"trainable": per_class, "frozen": 3 * CHANNELS},
        "macs": {"features": 72, "train_step": per_class, "predict": per_class},
        "memory": {
            "features": {"weights": 72, "activations": [[0, 144, 0, 0]]},
            "train_step": nothing,
            "predict": nothing,
            "state": {"fixed": 4 * CHANNELS, "per_class": 4 * (CHANNELS + 1)},
            "slots": slots,
            "runtime": 45_000_000,
            "runtime_release": "1.31.1",
        },
        "files": {file.relative_to(folder).as_posix(): _record(file) for file in files},
    }


def write_manifest(folder: Path, document: dict[str, Any]) -> None:
    """Write `document` with the `id` that belongs to it."""
    sealed = {**document, "id": manifest_id(document)}
    (folder / "manifest.json").write_text(json.dumps(sealed, indent=1), encoding="utf-8")


def _record(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _write_graphs(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    shapes = {entry["name"]: entry["shape"] for entry in STATE}
    lasting = [entry["name"] for entry in STATE if entry["role"] != "slot"]
    declared = {
        **shapes,
        **{name + ".next": shape for name, shape in shapes.items()},
        "images": ["N", 3, 8, 8],
        "h": ["N", CHANNELS, 2, 2],
        "labels": ["N"],
        "lr": [],
        "loss": [],
        "correct": [],
        "logits": ["N", "K"],
        "embedding": ["N", CHANNELS],
    }
    everything = [*shapes, "h", "labels", "lr"]
    results = ["loss", "correct", *(name + ".next" for name in shapes)]
    _save(folder / "features.onnx", _feature_nodes(), declared, ["images"], ["h"])
    _save(folder / "train_step.onnx", _step_nodes(), declared, everything, results)
    answers = ["logits", "embedding"]
    _save(folder / "predict.onnx", _logit_nodes(), declared, [*lasting, "h"], answers)


def _feature_nodes() -> list[Any]:
    kernel = np.eye(3, dtype=np.float32)[np.arange(CHANNELS) % 3].reshape(CHANNELS, 3, 1, 1)
    return [
        _constant("kernel", kernel),
        _node("AveragePool", ["images"], "pooled", kernel_shape=[4, 4], strides=[4, 4]),
        _node("Conv", ["pooled", "kernel"], "h"),
    ]


def _logit_nodes() -> list[Any]:
    return [
        _constant("map_axes", np.array([2, 3])),
        _node("ReduceMean", ["h", "map_axes"], "mean", keepdims=0),
        _node("Sub", ["mean", MEAN], "embedding"),
        _node("Gemm", ["embedding", WEIGHT, BIAS], "logits", transB=1),
    ]


def _step_nodes() -> list[Any]:
    """Return the step in an order that may overwrite the state: each entry is read last here."""
    return [
        *_logit_nodes(),
        _constant("batch_axis", np.array([0])),
        _constant("class_axis", np.array([1])),
        _constant("on_off", np.array([0, 1], np.float32)),
        _constant("momentum", np.array(MOMENTUM, np.float32)),
        _constant("keep", np.array(KEEP, np.float32)),
        _constant("renew", np.array(1 - KEEP, np.float32)),
        _node("Shape", ["logits"], "classes", start=1),
        _node("OneHot", ["labels", "classes", "on_off"], "target"),
        _node("LogSoftmax", ["logits"], "log_softmax"),
        _node("Mul", ["log_softmax", "target"], "picked"),
        _node("ReduceSum", ["picked", "class_axis"], "per_picture", keepdims=0),
        _node("ReduceMean", ["per_picture", "batch_axis"], "negative", keepdims=0),
        _node("Neg", ["negative"], "loss"),
        _node("ArgMax", ["logits"], "guess", axis=1, keepdims=0),
        _node("Equal", ["guess", "labels"], "hit"),
        _node("Cast", ["hit"], "hits", to=7),
        _node("ReduceSum", ["hits", "batch_axis"], "correct", keepdims=0),
        _node("Softmax", ["logits"], "softmax"),
        _node("Sub", ["softmax", "target"], "error"),
        _node("Size", ["labels"], "count"),
        _node("Cast", ["count"], "batch", to=1),
        _node("Div", ["error", "batch"], "gradient"),
        _node("Gemm", ["gradient", "embedding"], "weight_gradient", transA=1),
        _node("ReduceSum", ["gradient", "batch_axis"], "bias_gradient", keepdims=0),
        *_update_nodes(WEIGHT, "weight_gradient"),
        *_update_nodes(BIAS, "bias_gradient"),
        _node("ReduceMean", ["mean", "batch_axis"], "batch_mean", keepdims=0),
        _node("Mul", ["batch_mean", "renew"], "renewed"),
        _node("Mul", [MEAN, "keep"], "kept"),
        _node("Add", ["kept", "renewed"], MEAN + ".next"),
    ]


def _update_nodes(name: str, gradient: str) -> list[Any]:
    slot = SLOT + name
    return [
        _node("Mul", [slot, "momentum"], name + ".decayed"),
        _node("Add", [name + ".decayed", gradient], slot + ".next"),
        _node("Mul", [slot + ".next", "lr"], name + ".change"),
        _node("Sub", [name, name + ".change"], name + ".next"),
    ]


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], **attributes)


def _constant(name: str, value: Any) -> Any:
    from onnx import numpy_helper

    return _node("Constant", [], name, value=numpy_helper.from_array(value))


def _save(
    path: Path, nodes: list[Any], shapes: dict[str, Any], inputs: list[str], outputs: list[str]
) -> None:
    import onnx
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        whole = name in ("labels", "correct")
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, shapes[name])

    graph = helper.make_graph(
        nodes, path.stem, [value(i) for i in inputs], [value(o) for o in outputs]
    )
    # IR 8 is what opset 18 came with; onnxruntime 1.16 reads no newer one than 9.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
