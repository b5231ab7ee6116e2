"""Trains on one runtime and writes down all that can be compared.

    python worker.py DEVICE_FOLDER BUNDLE RUNTIME DATA OUT

Runs in any environment that has NumPy, Pillow, safetensors and the runtime; `DEVICE_FOLDER` is a
bundle's `device/`. DATA is a folder of `.npy` files, see `data.py`; OUT becomes an `.npz`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

EVALUATED_AT_ONCE = 8


def main(device: str, bundle_path: str, runtime: str, data: str, out: str) -> None:
    sys.path.insert(0, device)
    importlib.import_module("_script").register()
    bundles = importlib.import_module("mobiletl.device.bundle")
    runtimes = importlib.import_module("mobiletl.device.runtimes")
    bundle = bundles.open_bundle(bundle_path)
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in Path(data).glob("*.npy")}
    state = {
        entry.name: np.load(Path(data) / "state" / f"{index}.npy")
        for index, entry in enumerate(bundle.manifest.state)
    }
    classes = int(arrays["classes"])
    with runtimes.open_session(bundle, classes, state, threads=2, runtime=runtime) as session:
        found = train(session, arrays)
    np.savez(out, **found)


def train(session: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Steps on `rows` [steps,N] of the training maps; `state1/NAME` is the state after one."""
    images = arrays["images"]
    maps = [session.features(np.array(images[i : i + 1])) for i in range(len(images))]
    found: dict[str, Any] = {"h": np.concatenate(maps)}
    losses = []
    for index, (rows, rate) in enumerate(zip(arrays["rows"], arrays["rates"], strict=True)):
        h = np.ascontiguousarray(arrays["train_h"][rows])
        labels = np.ascontiguousarray(arrays["train_labels"][rows])
        losses.append(session.train_step(h, labels, float(rate)).loss)
        if index == 0:
            found.update({f"state1/{name}": t.copy() for name, t in session.state().items()})
    found["losses"] = np.array(losses)
    val = arrays["val_h"]
    logits = [
        session.predict(np.array(val[start : start + EVALUATED_AT_ONCE]))
        for start in range(0, len(val), EVALUATED_AT_ONCE)
    ]
    found["predicted"] = np.concatenate(logits).argmax(axis=1)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
