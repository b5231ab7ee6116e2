"""`python -m bench.products`: products of bytes beside products of floats, on stock onnxruntime.

The shapes are those of MobileNetV2's top at 224 px and batch 8. Every round runs every form in
turn; a figure is the median of the ratios within a round. *Framed* is what a step has of it: the
left side is rounded first, and what comes out is scaled. The second table says which sums a
processor adds right: bytes of every value against whole numbers in 64 bits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
from onnx import helper

from bench.graphs import bytes_like, session_of
from mobiletl.core.integer.operators import SIGNED_STEPS

# What it is, and (m, k, n): [m,k] times [k,n].
SHAPES = (
    ("expand, 7x7, forward", (392, 160, 960)),
    ("expand, 7x7, gradient of its input", (392, 960, 160)),
    ("expand, 7x7, gradient of its kernel", (960, 392, 160)),
    ("head, forward", (392, 320, 1280)),
    ("head, gradient of its kernel", (1280, 392, 320)),
    ("expand, 14x14, forward", (1568, 96, 576)),
    ("expand, 14x14, gradient of its kernel", (576, 1568, 96)),
)
SUMS = (160, 960, 392)
KINDS = (
    ("u8 x s8, all values", np.uint8, np.int8, 127),
    (f"u8 x s8, the right one to {SIGNED_STEPS}", np.uint8, np.int8, SIGNED_STEPS),
    ("u8 x u8", np.uint8, np.uint8, 255),
    ("s8 x s8", np.int8, np.int8, 127),
)  # fmt: skip
Call = Callable[[], object]


def main(argv: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.products", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    flags = parser.parse_args(argv)
    print("| product | M x K x N | float, ms | u8 x s8 | framed |")
    for name, shape in SHAPES:
        seconds = _in_turn(_forms(shape, flags.threads), flags.rounds)
        gains = np.median(seconds[:, :1] / seconds, axis=0)
        size = " x ".join(str(side) for side in shape)
        print(
            f"| {name} | {size} | {1e3 * np.median(seconds[:, 0]):.2f} | {gains[1]:.2f} x | "
            f"{gains[2]:.2f} x |",
            flush=True,
        )
    print("\n| left x right | sums that are wrong | ms |")
    for name, left, right, most in KINDS:
        print(f"| {name} | {_sums(left, right, most, flags)} |", flush=True)
    return 0


def _forms(shape: tuple[int, int, int], threads: int) -> list[Call]:
    """A product of floats, the same of bytes, and what a step has of it."""
    m, k, n = shape
    generator = np.random.default_rng(0)
    floats = {
        "a": generator.standard_normal((m, k), np.float32),
        "b": generator.standard_normal((k, n), np.float32),
    }
    kept = bytes_like((k, n), np.int8, SIGNED_STEPS)
    of_bytes = {"a": bytes_like((m, k), np.uint8, 255), "b": kept}
    one, centre = np.array(0.03, np.float32), np.array(128, np.uint8)
    framed = {"x": floats["a"], "b": kept, "s": one, "t": np.full(n, one), "z": centre}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node(
            "MatMulIntegerToFloat", ["a", "b", "s", "t", "z"], ["y"], domain="com.microsoft"
        ),
    ]
    product = [helper.make_node("MatMulInteger", ["a", "b"], ["y"])]
    return [
        _call([helper.make_node("Gemm", ["a", "b"], ["y"])], floats, threads),
        _call(product, of_bytes, threads),
        _call(nodes, framed, threads),
    ]


def _call(nodes: list[object], feeds: dict[str, np.ndarray], threads: int) -> Call:
    session = session_of(nodes, feeds, "y", threads)  # type: ignore[arg-type]
    return lambda: session.run(None, feeds)


def _in_turn(calls: list[Call], rounds: int) -> np.ndarray:
    """Seconds [rounds, calls]; each has run once before it counts."""
    seconds = np.empty((rounds, len(calls)))
    for row in range(-1, rounds):
        for column, call in enumerate(calls):
            started = time.perf_counter()
            call()
            if row >= 0:
                seconds[row, column] = time.perf_counter() - started
    return seconds


def _sums(
    left: type[np.generic], right: type[np.generic], most: int, flags: argparse.Namespace
) -> str:
    m, k, n = SUMS
    a = bytes_like((m, k), left, 127 if left is np.int8 else 255)
    b = bytes_like((k, n), right, most)
    feeds = {"a": a, "b": b}
    session = session_of(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], feeds, "y", flags.threads
    )
    wrong = session.run(None, feeds)[0] != a.astype(np.int64) @ b.astype(np.int64)
    seconds = _in_turn([lambda: session.run(None, feeds)], flags.rounds)
    return f"{int(wrong.sum()):,} of {wrong.size:,} | {1e3 * np.median(seconds):.2f}"


if __name__ == "__main__":
    sys.exit(main())
