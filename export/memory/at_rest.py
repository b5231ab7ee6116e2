"""What a board's process holds before it trains: libraries, their code, and the loaded graphs.

Run as a module in a process of its own, because the exporter's holds PyTorch as well:
`python -m mobiletl.export.memory.at_rest GRAPH ...` prints the bytes. Resident memory counts a
library's code page by page as it is run, and a board gives back what only the start has run
(device/sessions/freed.py). So the process does once what a board does: it decodes a JPEG, draws
random numbers, hashes, solves for a classifier and loads every function. It gives code back where
a board does, then runs every function on one picture and uses the libraries once more. What all
that needed for itself is free again when memory is read. Fonts are not counted: a board draws its
plot when all else is free.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobiletl.device.sessions.freed import (
    GIVEN_BACK_BYTES,
    return_all,
    return_freed,
    returns_code,
)

MODULE = "mobiletl.export.memory.at_rest"
OPTIMISED = "features"
LIBRARIES = (
    "argparse", "json", "logging", "PIL.BmpImagePlugin", "PIL.GifImagePlugin",
    "PIL.PngImagePlugin", "PIL.PpmImagePlugin", "PIL.TiffImagePlugin", "PIL.WebPImagePlugin",
    "mobiletl.device.train_on_board", "mobiletl.device.sessions.onnxruntime",
)  # fmt: skip
STATUS = Path("/proc/self/status")


def runtime_at_rest(graphs: Mapping[str, bytes], weights: int) -> int:
    """Resident bytes with `graphs` (function to file) loaded, less their `weights` in bytes.

    Weights have a line of their own in the memory plan. A host that keeps code in memory is counted
    as if it gave it back; a board that keeps it adds it (device/memory/at_rest.py).
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.onnx" for name in graphs]
        for file, content in zip(files, graphs.values(), strict=True):
            file.write_bytes(content)
        command = [sys.executable, "-m", MODULE, *map(str, files)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = 0 if returns_code() else GIVEN_BACK_BYTES
    return int(result.stdout) - weights - kept


def _use_libraries() -> None:
    """Import what the runner imports, and use what is bound to be used."""
    for name in LIBRARIES:
        importlib.import_module(name)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    hashlib.sha256(noise.tobytes())
    jpeg = io.BytesIO()
    Image.fromarray(noise).save(jpeg, "JPEG")
    with Image.open(jpeg) as picture:
        picture.convert("RGB").resize((48, 48), Image.Resampling.BILINEAR)
    _solve()


def _solve() -> None:
    """Solve for a classifier, as a run does at its start and at its end.

    The libraries of linear algebra keep a buffer for each thread from their first large product on.
    """
    embeddings = np.random.default_rng(0).normal(size=(256, 1280)).astype(np.float32)
    np.linalg.eigh(embeddings @ embeddings.T)


def _load(file: Path) -> Any:
    """A session as docs/bundle.md asks for it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not file.name.startswith(OPTIMISED):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(file), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _run_once(session: Any) -> None:
    """Run a function on zeros: one picture, two classes."""
    sizes = {"N": 1, "K": 2}
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    feeds = {
        node.name: np.zeros([sizes.get(size, size) for size in node.shape], types[node.type])
        for node in session.get_inputs()
    }
    session.run(None, feeds)


def _main(paths: list[str]) -> None:
    _use_libraries()
    sessions = []
    for path in paths:
        return_all()
        sessions.append(_load(Path(path)))
    return_all()
    for session in sessions:
        _run_once(session)
    _use_libraries()
    return_freed()
    sys.stdout.write(f"{_resident_bytes()}\n")
    del sessions  # until here they count


def _resident_bytes() -> int:
    """What is resident now; where the system does not tell, the most there ever was."""
    if STATUS.exists():
        lines = STATUS.read_text("ascii").splitlines()
        (resident,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
        return int(resident) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    _main(sys.argv[1:])
