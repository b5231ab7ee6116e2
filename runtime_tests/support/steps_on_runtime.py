"""Some training steps on one runtime, and all that can be compared after them.

    python steps_on_runtime.py BUNDLE RUNTIME GIVEN OUT

runs in any environment that has what a board needs, with the runner that the bundle carries. GIVEN
and OUT are `.npz` files: the first holds what `take_steps` is given, the second what it returns.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def take_steps(bundle: Any, runtime: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`: pictures [N,3,R,R], labels [N], lr, steps, and the tensors of a state as
    `state/NAME`. Found: the feature maps, losses, logits and embedding after the last step, and the
    state after the first.
    """
    runtimes = importlib.import_module("mobiletl.device.sessions.runtimes")
    start = {e.name: given[f"state/{e.name}"] for e in bundle.manifest.state}
    classes = int(given["labels"].max()) + 1
    found: dict[str, Any] = {}
    losses = []
    with runtimes.open_session(bundle, classes, start, 1, runtime) as session:
        h = np.ascontiguousarray(session.features(given["pictures"]))
        found["h"] = h.copy()
        for _ in range(int(given["steps"])):
            losses.append(session.train_step(h, given["labels"], float(given["lr"])).loss)
            if len(losses) == 1:
                found.update({f"state/{name}": t.copy() for name, t in session.state().items()})
        answered = session.embed(h)
        found["logits"] = answered.logits.copy()
        found["embedding"] = answered.embeddings.copy()
    return {**found, "losses": np.array(losses)}


def main(bundle: str, runtime: str, given: str, out: str) -> None:
    sys.path.insert(0, str(Path(bundle) / "device"))
    importlib.import_module("_script").register()
    opened = importlib.import_module("mobiletl.device.bundle.bundle").open_bundle(bundle)
    with np.load(given) as file:
        np.savez(out, **take_steps(opened, runtime, dict(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
