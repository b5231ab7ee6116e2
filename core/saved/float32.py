"""float32: every layer keeps what PyTorch keeps, which is its input as it came."""

from __future__ import annotations

from mobiletl.core.saved.policy import Saved

FLOAT32 = Saved("float32", "inputs of activations as they are, 32 bits each")
