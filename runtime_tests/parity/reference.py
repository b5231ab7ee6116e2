"""The same training in PyTorch: eager modules, `cross_entropy`, `backward`, `torch.optim.SGD`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobiletl.core.transfer import Transfer, trained_norms
from mobiletl.device.bundle import Bundle
from runtime_tests.parity.data import feature_maps

EVALUATED_AT_ONCE = 8


def train_reference(
    transfer: Transfer, bundle: Bundle, data: Path, last_bit: bool = False
) -> dict[str, Any]:
    """What `worker.train` finds, from autograd; with `last_bit` the feature maps are off by
    theirs, which says how far programs that round otherwise drift apart.
    """
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in data.glob("*.npy")}
    entries = bundle.manifest.state
    start = {e.name: np.load(data / "state" / f"{i}.npy") for i, e in enumerate(entries)}
    top = copy.deepcopy(transfer.top)
    learned = {name: value for name, value in start.items() if not name.startswith("sgd.")}
    top.load_state_dict({name: torch.from_numpy(v) for name, v in learned.items()}, strict=False)
    top.train()
    parameters = {name: p for name, p in top.named_parameters() if p.requires_grad}
    momentum = bundle.manifest.optimizer.momentum
    optimizer = torch.optim.SGD(parameters.values(), momentum=momentum)
    found: dict[str, Any] = {"h": feature_maps(transfer, arrays["images"])}
    losses = []
    for index, (rows, rate) in enumerate(zip(arrays["rows"], arrays["rates"], strict=True)):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        labels = torch.from_numpy(np.ascontiguousarray(arrays["train_labels"][rows]))
        maps = np.ascontiguousarray(arrays["train_h"][rows])
        h = torch.from_numpy(np.nextafter(maps, np.float32(np.inf)) if last_bit else maps)
        loss = torch.nn.functional.cross_entropy(top(h), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        if index == 0:
            found.update(
                {f"state1/{k}": v.numpy().copy() for k, v in _state(top, optimizer).items()}
            )
    found["losses"] = np.array(losses)
    val = torch.from_numpy(np.array(arrays["val_h"]))
    top.eval()
    with torch.no_grad():
        logits = torch.cat([top(part) for part in val.split(EVALUATED_AT_ONCE)])
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
