"""Two graphs of a bundle and the tensors of a state, joined to one graph of constants.

Letters: N pictures, K classes, R the resolution, D the width of the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import BELOW
from mobiletl.device.errors import BadBundle

if TYPE_CHECKING:
    import onnx

# What names of the frozen part begin with: both graphs count their constants from 0.
FROZEN = "frozen/"
IMAGES, MAP, LOGITS, EMBEDDING = "images", "h", "logits", "embedding"


def chained(files: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Return the files of the frozen layers as one, `images` f32[N,3,R,R] -> `h` f32[N,C,h,w].

    Each takes the map of the one before it. Raises BadBundle for files that do not fit.
    """
    import onnx

    whole = files[0]
    for place, file in enumerate(files[1:], 1):
        between = f"{FROZEN}{place}"
        names = [[v.name for v in side] for side in (file.graph.input, file.graph.output)]
        if names != [[BELOW], [MAP]] or [v.name for v in whole.graph.output] != [MAP]:
            raise BadBundle(
                f"the frozen layers' file {place + 1} takes and gives {names}, expected {BELOW} "
                f"and {MAP}; export the bundle again"
            )
        _rename(whole.graph, {IMAGES: IMAGES, MAP: between}, f"{between}/")
        _rename(file.graph, {BELOW: between, MAP: MAP}, f"{FROZEN}{place + 1}/")
        graph = onnx.helper.make_graph(
            [*whole.graph.node, *file.graph.node],
            whole.graph.name,
            list(whole.graph.input),
            list(file.graph.output),
            [*whole.graph.initializer, *file.graph.initializer],
        )
        whole = onnx.helper.make_model(
            graph,
            producer_name=whole.producer_name,
            opset_imports=list(whole.opset_import),
            ir_version=whole.ir_version,
        )
    return whole


def joined(
    features: onnx.ModelProto, predict: onnx.ModelProto, state: Tensors, outputs: Sequence[str]
) -> onnx.ModelProto:
    """Return a model `images` f32[N,3,R,R] -> `outputs`, of `logits` f32[N,K] and `embedding`.

    `state` gives a value to every input of `predict` but the feature map. Raises BadBundle for
    graphs that do not fit each other or the state.
    """
    import onnx

    _check(features, predict, state)
    below, above = features.graph, predict.graph
    _rename(below, {IMAGES: IMAGES, MAP: MAP})
    classes = _classes(state, above)
    results = [value for value in above.output if value.name in outputs]
    for value in results:
        _fix(value, "K", classes)
    graph = onnx.helper.make_graph(
        [*below.node, *above.node],
        "finished",
        list(below.input),
        results,
        [*below.initializer, *above.initializer, *_initializers(state, above.input)],
    )
    model = onnx.helper.make_model(
        graph,
        producer_name=predict.producer_name,
        producer_version=predict.producer_version,
        opset_imports=list(predict.opset_import),
        ir_version=max(features.ir_version, predict.ir_version),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _check(features: onnx.ModelProto, predict: onnx.ModelProto, state: Tensors) -> None:
    """Raise BadBundle where one of the two gives what the other does not take."""
    needed = {value.name for value in predict.graph.input} - {MAP} - set(state)
    opsets = [{(o.domain, o.version) for o in one.opset_import} for one in (features, predict)]
    inputs = [value.name for value in features.graph.input]
    problems = [f"predict reads {name}, which the state has not" for name in sorted(needed)]
    if opsets[0] != opsets[1]:
        problems.append(f"operators are of {sorted(opsets[0])} and {sorted(opsets[1])}")
    if inputs != [IMAGES] or [value.name for value in features.graph.output] != [MAP]:
        problems.append(f"features reads {inputs}, expected {IMAGES} in and {MAP} out")
    if problems:
        raise BadBundle(f"the bundle's graphs do not fit: {'; '.join(problems)}; export it again")


def _rename(graph: onnx.GraphProto, kept: dict[str, str], start: str = FROZEN) -> None:
    """Give everything in `graph` a name that begins with `start`, but for what is `kept`."""

    def new(name: str) -> str:
        # An empty name is an optional input that is left out.
        return kept.get(name, start + name) if name else name

    for node in graph.node:
        node.name = start + node.name if node.name else ""
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
    for constant in graph.initializer:
        constant.name = new(constant.name)


def _initializers(state: Tensors, inputs: Iterable[Any]) -> list[onnx.TensorProto]:
    from onnx import numpy_helper

    names = [value.name for value in inputs if value.name != MAP]
    return [numpy_helper.from_array(np.ascontiguousarray(state[name]), name) for name in names]


def _classes(state: Tensors, graph: onnx.GraphProto) -> int:
    """Return K, which the graph calls so in the shapes of what it reads."""
    for value in graph.input:
        for place, side in enumerate(value.type.tensor_type.shape.dim):
            if side.dim_param == "K":
                return int(state[value.name].shape[place])
    raise BadBundle("the bundle's predict reads nothing of K classes; export it again")


def _fix(value: onnx.ValueInfoProto, letter: str, size: int) -> None:
    for side in value.type.tensor_type.shape.dim:
        if side.dim_param == letter:
            side.dim_value = size
