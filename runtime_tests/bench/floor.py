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
    """Load one Gemm per shape."""
    pairs = [(_session(shape, threads), _factors(shape)) for shape in SHAPES]

    def run() -> None:
        for session, factors in pairs:
            for _ in range(REPEATS):
                session.run(None, factors)

    return Products(run, REPEATS * sum(m * k * n for m, k, n in SHAPES))


def _factors(shape: tuple[int, int, int]) -> dict[str, np.typing.NDArray[np.float32]]:
    m, k, n = shape
    noise = np.random.default_rng(0)
    return {
        "a": noise.standard_normal((m, k), np.float32),
        "b": noise.standard_normal((k, n), np.float32),
    }


def _session(shape: tuple[int, int, int], threads: int) -> onnxruntime.InferenceSession:
    m, k, n = shape
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["a", "b"], ["c"])],
        "product",
        [value("a", TensorProto.FLOAT, [m, k]), value("b", TensorProto.FLOAT, [k, n])],
        [value("c", TensorProto.FLOAT, [m, n])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
