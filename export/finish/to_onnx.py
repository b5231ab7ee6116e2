"""An ONNX file of standard operators, opset 18, any N; facts in `metadata_props`."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnxscript import ir

from mobiletl.device.bundle.finished_facts import METADATA
from mobiletl.export.finish.finished import Finished
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.tracing.trace import Input, trace


def render(finished: Finished) -> Mapping[str, bytes]:
    """One `.onnx` file."""
    return {".onnx": onnx_model(finished).SerializeToString()}


def onnx_model(finished: Finished) -> onnx.ModelProto:
    """`images` f32[N,3,R,R] -> `logits` f32[N,K]; and `embedding` f32[N,D] where the state has a
    threshold for pictures of none of the classes, which is a matter of both.
    """
    side = finished.resolution
    images = Input("images", ("N", 3, side, side))
    if finished.tells_unknown:
        traced = trace(finished.outputs, [images], ["logits", "embedding"])
    else:
        traced = trace(lambda x: (finished.network(x),), [images], ["logits"])
    proto = ir.to_proto(lower_to_onnx(traced, "finished"))
    onnx.helper.set_model_props(proto, {METADATA: finished.metadata()})
    onnx.checker.check_model(proto, full_check=True)
    return proto
