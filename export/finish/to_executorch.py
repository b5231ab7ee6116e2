"""An ExecuTorch program with XNNPACK's kernels; facts in a `.json` beside it.

A `.pte` has no place for texts. Its one method, `forward`, takes one picture: programs that use it
look at one frame at a time, and its arena is planned for that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mobiletl.export.finish.finished import Finished
from mobiletl.export.lowering.executorch.library import quiet


def render(finished: Finished) -> Mapping[str, bytes]:
    """images f32[1,3,R,R] -> logits f32[1,K], as `.pte` and `.json`."""
    side = finished.resolution
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(finished.network, (torch.zeros(1, 3, side, side),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        content = bytes(lowered.to_executorch().buffer)
    return {".pte": content, ".json": finished.metadata().encode("utf-8")}
