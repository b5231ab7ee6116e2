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
    bundles = importlib.import_module("mobiletl.device.bundle.bundle")
    runtimes = importlib.import_module("mobiletl.device.sessions.runtimes")
    bundle = bundles.open_bundle(bundle_path)
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in Path(data).glob("*.npy")}
    classes = int(arrays["classes"])
    found: dict[str, Any] = {}
    for run, rows in enumerate(arrays["rows"]):
        folder = Path(data) / f"state{run}"
        state = {e.name: np.load(folder / f"{i}.npy") for i, e in enumerate(bundle.manifest.state)}
        with runtimes.open_session(bundle, classes, state, threads=2, runtime=runtime) as session:
            found.update({f"{run}/{k}": v for k, v in train(session, arrays, rows).items()})
            if run == 0:
                images = arrays["images"]
                maps = [session.features(np.array(images[i : i + 1])) for i in range(len(images))]
                found["h"] = np.concatenate(maps)
    np.savez(out, **found)


def train(session: Any, arrays: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Steps on `rows` [steps,N] of the training maps; `state1/NAME` is the state after one."""
    found: dict[str, Any] = {}
    losses = []
    for chosen, rate in zip(rows, arrays["rates"], strict=True):
        h = np.ascontiguousarray(arrays["train_h"][chosen])
        labels = np.ascontiguousarray(arrays["train_labels"][chosen])
        losses.append(session.train_step(h, labels, float(rate)).loss)
        if len(losses) == 1:
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
