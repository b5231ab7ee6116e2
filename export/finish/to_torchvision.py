"""Weights under torchvision's state-dict keys; facts in the safetensors metadata."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors.torch import save

from mobiletl.core.errors import UsageError
from mobiletl.device.bundle.finished_facts import METADATA
from mobiletl.export.finish.finished import Finished


def render(finished: Finished) -> Mapping[str, bytes]:
    """One `.safetensors` file, for `load_state_dict(..., strict=True)`. Raises UsageError for a
    network that has more layers than torchvision's.
    """
    if finished.adds_layers:
        raise UsageError(
            f"--to torchvision: {finished.manifest.method.name} has put layers beside the "
            "blocks that torchvision's network lacks; try --to onnx or --to torchscript"
        )
    tensors = {key: tensor.contiguous() for key, tensor in finished.tensors.items()}
    return {".safetensors": save(tensors, {METADATA: finished.metadata()})}
