"""What is never trained, as one hash: a state fits the numbers it was trained beside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

import onnx

from mobiletl.core.transfer import Transfer


def with_graph(digest: str, frozen: onnx.ModelProto) -> str:
    """The SHA-256 of a digest and of the graph `frozen`, where that has other numbers than the
    layers it was made of.
    """
    content = frozen.graph.SerializeToString(deterministic=True)
    return hashlib.sha256(digest.encode("ascii") + content).hexdigest()


def frozen_digest(transfer: Transfer, trained: Collection[str]) -> str:
    """The SHA-256, in hex digits, of all frozen floats: the prefix's, then those inside the top.

    `trained` names the entries of the top's state dict that are not frozen. Names are no part of
    it, so a layer may be called anew; shapes are.
    """
    digest = hashlib.sha256()
    inside = {k: v for k, v in transfer.top.state_dict().items() if k not in trained}
    for tensor in (*transfer.prefix.state_dict().values(), *inside.values()):
        if tensor.is_floating_point():
            array = tensor.detach().float().contiguous().numpy()
            digest.update(json.dumps(list(array.shape)).encode("ascii"))
            digest.update(array.tobytes())
    return digest.hexdigest()
