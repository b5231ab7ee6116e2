"""Small graphs of one node or few, and sessions for them, as several benches time them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]


def session_of(
    nodes: Sequence[onnx.NodeProto], feeds: Mapping[str, NDArray[Any]], result: str, threads: int
) -> onnxruntime.InferenceSession:
    """A session of `nodes` that reads what `feeds` is like and gives `result`, run as a step is."""
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(nodes, "nodes", inputs, [onnx.ValueInfoProto(name=result)])
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=9)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), step_options(threads), providers=["CPUExecutionProvider"]
    )


def step_options(threads: int) -> onnxruntime.SessionOptions:
    """What docs/bundle.md asks of a session that runs a step."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = options.enable_mem_reuse = False
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def bytes_like(shape: Sequence[int], dtype: type[np.generic], most: int) -> NDArray[Any]:
    """Random bytes, from -most for signed ones and from 0 for others."""
    least = -most if np.dtype(dtype).kind == "i" else 0
    return np.random.default_rng(0).integers(least, most + 1, shape).astype(dtype)
