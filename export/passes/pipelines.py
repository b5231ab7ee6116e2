"""The passes over the traced step, and in which order each runtime has them."""

from __future__ import annotations

from collections.abc import Mapping

from mobiletl.export.passes.cancel_transposes import cancel_transposes
from mobiletl.export.passes.channel_major.rewrite import channel_major
from mobiletl.export.passes.manager import Pass, apply_passes
from mobiletl.export.passes.rematerialise import rematerialise_kernels
from mobiletl.export.passes.shrink_expand import shrink_expand
from mobiletl.export.tracing.trace import Traced

SHRINK_EXPAND = Pass(
    "shrink-expand",
    shrink_expand,
    legal="a division is elementwise, so it may come before a value is spread over a map",
    before=("channel-major",),
)
REMATERIALISE = Pass(
    "rematerialise",
    rematerialise_kernels,
    legal="the same product of a parameter and a constant is computed again, before any update",
    before=("channel-major",),  # it looks at the kernels of convolutions, which are products then
)
CHANNEL_MAJOR = Pass(
    "channel-major",
    channel_major,
    legal="each rule computes the same sums and products in another order, gradients included",
    leaves_to=("cancel-transposes",),  # layouts leave pairs behind
)
CANCEL_TRANSPOSES = Pass(
    "cancel-transposes",
    cancel_transposes,
    legal="two transposes of the same axes only name them",
)

MATRIX_PRODUCTS = (SHRINK_EXPAND, REMATERIALISE, CHANNEL_MAJOR, CANCEL_TRANSPOSES)
# Convolutions and norms stay PyTorch's own, which are faster there than products.
AS_TRACED = (SHRINK_EXPAND, REMATERIALISE)

PIPELINES: Mapping[str, tuple[Pass, ...]] = {
    "onnxruntime": MATRIX_PRODUCTS,
    "onnxruntime-training": MATRIX_PRODUCTS,
    "executorch": MATRIX_PRODUCTS,
    "torchscript": AS_TRACED,
}


def run_passes(traced: Traced, runtime: str = "onnxruntime") -> Traced:
    """Apply the passes of `runtime` in order."""
    rewritten, _ = apply_passes(PIPELINES[runtime], traced)
    return rewritten
