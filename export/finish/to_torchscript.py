"""A TorchScript program, any N; facts in the extra file `mobiletl.json`."""

from __future__ import annotations

from collections.abc import Mapping

from mobiletl.device.bundle.finished_facts import METADATA
from mobiletl.export.finish.finished import Finished
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.tracing.trace import Input, trace


def render(finished: Finished) -> Mapping[str, bytes]:
    """One `.ts` file; read the facts with `torch.jit.load(..., _extra_files=...)`."""
    side = finished.resolution
    images = Input("images", ("N", 3, side, side))
    traced = trace(lambda x: (finished.network(x),), [images], ["logits"])
    extra = {f"{METADATA}.json": finished.metadata()}
    return {".ts": lower_to_torchscript(traced, extra=extra)}
