"""The same training in PyTorch: eager modules, `cross_entropy`, `backward`, `torch.optim.SGD`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobiletl.core.transfer import Transfer, TransferTop, trained_norms
from mobiletl.device.bundle.bundle import Bundle
from parity.data import feature_maps

EVALUATED_AT_ONCE = 8


def train_reference(
    transfer: Transfer, bundle: Bundle, data: Path, last_bit: bool = False
) -> dict[str, Any]:
    """What `worker.py` finds, from autograd; with `last_bit` the feature maps are off by theirs,
    which says how far programs that round otherwise drift apart.
    """
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in data.glob("*.npy")}
    if last_bit:
        arrays["train_h"] = np.nextafter(arrays["train_h"], np.float32(np.inf))
    found: dict[str, Any] = {"h": feature_maps(transfer, arrays["images"])}
    for run, rows in enumerate(arrays["rows"]):
        entries = bundle.manifest.state
        state = {e.name: np.load(data / f"state{run}" / f"{i}.npy") for i, e in enumerate(entries)}
        training = _Training(copy.deepcopy(transfer.top), state, bundle.manifest.optimizer.momentum)
        found.update({f"{run}/{k}": v for k, v in training.run(arrays, rows).items()})
    return found


class _Training:
    """Ordinary training of a top that starts from `state`."""

    def __init__(self, top: TransferTop, state: dict[str, Any], momentum: float) -> None:
        known = top.state_dict()
        learned = {name: torch.from_numpy(v) for name, v in state.items() if name in known}
        top.load_state_dict(learned, strict=False)
        self.top = top
        parameters = [p for p in top.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, momentum=momentum)

    def run(self, arrays: dict[str, Any], rows: Any) -> dict[str, Any]:
        """As `worker.train`."""
        found: dict[str, Any] = {}
        losses = []
        self.top.train()
        for chosen, rate in zip(rows, arrays["rates"], strict=True):
            self.optimizer.param_groups[0]["lr"] = float(rate)
            self.optimizer.zero_grad()
            h, labels = (
                torch.from_numpy(np.ascontiguousarray(arrays[name][chosen]))
                for name in ("train_h", "train_labels")
            )
            loss = torch.nn.functional.cross_entropy(self.top(h), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses.append(loss.item())
            if len(losses) == 1:
                after = _state(self.top, self.optimizer)
                found.update({f"state1/{name}": t.numpy().copy() for name, t in after.items()})
        found["losses"] = np.array(losses)
        self.top.eval()
        with torch.no_grad():
            val = torch.from_numpy(np.array(arrays["val_h"]))
            logits = torch.cat([self.top(part) for part in val.split(EVALUATED_AT_ONCE)])
        found["predicted"] = logits.argmax(dim=1).numpy()
        return found


def _state(top: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every entry of a bundle's state under its name there."""
    parameters = {name: p for name, p in top.named_parameters() if p.requires_grad}
    statistics = {
        f"{name}.{key}": getattr(norm, key)
        for name, norm in trained_norms(top)
        for key in ("running_mean", "running_var")
    }
    slots = {
        f"sgd.momentum/{name}": optimizer.state[p]["momentum_buffer"]
        for name, p in parameters.items()
    }
    return {name: t.detach() for name, t in {**parameters, **statistics, **slots}.items()}
