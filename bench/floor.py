"""The machine's matrix-product rate, in onnxruntime: what no step of convolutions goes below.

The shapes are those of the trained layers at batch 8 and 7 x 7: head, expand and project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

# (m, k, n): [m,k] times [k,n]
SHAPES = ((1280, 320, 392), (960, 160, 392), (160, 960, 392))
REPEATS = 5


@dataclass(frozen=True)
class Products:
    """`run` multiplies every shape `REPEATS` times: `macs` multiply-accumulates in all."""

    run: Callable[[], None]
    macs: int


def matrix_products(threads: int) -> Products:
    """Load one graph with a Gemm per shape, and give its results memory once."""
    session = _session(threads)
    binding = session.io_binding()
    noise = np.random.default_rng(0)
    for node in session.get_inputs():
        binding.bind_cpu_input(node.name, noise.standard_normal(node.shape, np.float32))
    results = {n.name: np.empty(n.shape, np.float32) for n in session.get_outputs()}
    for name, result in results.items():
        binding.bind_output(name, "cpu", 0, np.float32, result.shape, result.ctypes.data)

    def run() -> None:
        for _ in range(REPEATS):
            session.run_with_iobinding(binding)
        assert np.isfinite(results["c0"][0, 0])  # and the results live as long as they are written

    return Products(run, REPEATS * sum(m * k * n for m, k, n in SHAPES))


def _session(threads: int) -> onnxruntime.InferenceSession:
    nodes, inputs, outputs = [], [], []
    for index, (m, k, n) in enumerate(SHAPES):
        names = [f"{letter}{index}" for letter in "abc"]
        a, b, c = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(names, ([m, k], [k, n], [m, n]), strict=True)
        )
        nodes.append(helper.make_node("Gemm", names[:2], names[2:]))
        inputs += [a, b]
        outputs.append(c)
    graph = helper.make_graph(nodes, "products", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # As the board's sessions are set: a second pool of spinning threads would slow all others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
