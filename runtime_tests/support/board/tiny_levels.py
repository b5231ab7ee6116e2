"""A real bundle of a few kilobytes with two levels, for tests (docs/bundle.md, levels).

The level of 0 blocks is the tiny bundle. The bundle's own has 1 block: the convolution of the tiny
one's frozen layers lies in its step, on a map of 3 channels, and its state has one entry more, an
offset that only decays. So the frozen layers are a chain of two files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from mobiletl.device.bundle.digest import manifest_id
from runtime_tests.support.board.tiny_bundle import (
    BIAS,
    KEEP,
    tiny_document,
    write_manifest,
    write_tiny_bundle,
)

OFFSET = "features.1.running_mean"
# So much more the deeper level is planned with.
MORE_BYTES = 20_000_000
LEVEL_FILE = "levels/0.json"
SHAPE = (3, 2, 2)


def write_tiny_levels(folder: Path) -> Path:
    """Write the bundle into `folder`."""
    write_tiny_bundle(folder)
    stored = {**load_file(str(folder / "state.safetensors")), OFFSET: np.ones(3, np.float32)}
    save_file(stored, str(folder / "state.safetensors"))
    _rewrite_graphs(folder / "onnxruntime")
    (folder / "manifest.json").unlink()
    write_levels(folder, *_documents(folder))
    return folder


def write_levels(folder: Path, document: dict[str, Any], level: dict[str, Any]) -> None:
    """Write both manifests with the ids that belong to them."""
    sealed = {**level, "id": manifest_id(level)}
    (folder / "levels").mkdir(exist_ok=True)
    (folder / LEVEL_FILE).write_text(json.dumps(sealed, indent=1), encoding="utf-8")
    write_manifest(folder, {**document, "levels": {"0": sealed["id"]}})


def read_documents(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifests of the bundle and of its further level."""
    own, level = (
        json.loads((folder / name).read_bytes()) for name in ("manifest.json", LEVEL_FILE)
    )
    return own, level


def _documents(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    document = tiny_document(folder)
    level = {
        **document,
        "files": {
            path: record
            for path, record in document["files"].items()
            if not path.endswith(("train_step.onnx", "predict.onnx"))
        },
        "runtimes": _runtimes(
            {
                "features": "features",
                "features.1": "features-1-0",
                "train_step": "train_step-0",
                "predict": "predict-0",
            }
        ),
    }
    memory = document["memory"]
    own = {
        **document,
        "method": {**document["method"], "blocks": 1},
        "feature": {"shape": list(SHAPE)},
        "state": [
            *document["state"][:3],
            {
                "name": OFFSET,
                "role": "statistic",
                "shape": [3],
                "init": "file",
                "dtype": "float32",
            },
            *document["state"][3:],
        ],
        "runtimes": _runtimes({name: name for name in ("features", "train_step", "predict")}),
        "memory": {
            **memory,
            "features": {"weights": 0, "activations": [[0, 144, 0, 0]]},
            "train_step": {"weights": 72, "activations": [[MORE_BYTES, 48, 0, 24]]},
            "state": {**memory["state"], "fixed": memory["state"]["fixed"] + 12},
        },
    }
    return own, level


def _runtimes(names: dict[str, str]) -> dict[str, Any]:
    files = {role: f"onnxruntime/{name}.onnx" for role, name in names.items()}
    return {"onnxruntime": {"files": files, "batch": None, "classes": None, "memory": {}}}


def _rewrite_graphs(folder: Path) -> None:
    import onnx

    for name in ("train_step", "predict"):
        (folder / f"{name}.onnx").rename(folder / f"{name}-0.onnx")
    frozen = onnx.load(folder / "features.onnx")
    kernel, pool, convolution = frozen.graph.node
    shape = ["N", *SHAPE]
    _save(
        folder / "features.onnx", frozen, [_renamed(pool, "pooled", "h")], {"images": None}, shape
    )
    below = _renamed(convolution, "pooled", "below")
    _save(folder / "features-1-0.onnx", frozen, [kernel, below], {"below": shape}, None)
    for name in ("train_step", "predict"):
        model = onnx.load(folder / f"{name}-0.onnx")
        wide = [kernel, _renamed(_renamed(convolution, "h", "wide"), "pooled", "h")]
        nodes = [*wide, *(_renamed(node, "h", "wide") for node in model.graph.node)]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        for value in model.graph.input:
            if value.name == "h":
                value.CopyFrom(_value("h", shape))
        if name == "train_step":
            _decay(model.graph)
        onnx.checker.check_model(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def _save(path: Path, like: Any, nodes: list[Any], inputs: Any, output: Any) -> None:
    """Save `nodes` of `like`; a shape that is None is as it was there."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(like)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    ((name, shape),) = inputs.items()
    if shape is not None:
        model.graph.input[0].CopyFrom(_value(name, shape))
    if output is not None:
        model.graph.output[0].CopyFrom(_value("h", output))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _decay(graph: Any) -> None:
    from onnx import helper, numpy_helper

    rate = numpy_helper.from_array(np.array(KEEP, np.float32))
    graph.node.extend(
        [
            helper.make_node("Constant", [], ["decay"], value=rate),
            helper.make_node("Mul", [OFFSET, "decay"], [OFFSET + ".next"]),
        ]
    )
    place = [value.name for value in graph.input].index(BIAS)
    graph.input.insert(place, _value(OFFSET, [3]))
    graph.output.append(_value(OFFSET + ".next", [3]))


def _value(name: str, shape: list[Any]) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _renamed(node: Any, old: str, new: str) -> Any:
    import onnx

    found = onnx.NodeProto()
    found.CopyFrom(node)
    for names in (found.input, found.output):
        names[:] = [new if name == old else name for name in names]
    return found
