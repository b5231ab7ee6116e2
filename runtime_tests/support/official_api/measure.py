"""Speed or memory of training through the official API with default options, as JSON.

    python measure.py speed ROUNDS NAME=FOLDER:PREFIX:INPUT ...
    python measure.py memory STEPS NAME=FOLDER:PREFIX:INPUT

FOLDER holds the four files, PREFIX starts the names of the two models, INPUT is an `.npz` with the
arrays `x` and `labels`. Speed takes turns between the subjects: a busy machine hits them alike.
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from onnxruntime.training.api import CheckpointState, Module, Optimizer

# Threads of the subject before spin for a while, waiting for its next call.
SETTLE_SECONDS = 0.05


class Subject:
    """One artifact, loaded; a call is one step."""

    def __init__(self, text):
        folder, prefix, arrays = text.split(":")
        given = np.load(arrays)
        self.batch = (given["x"], given["labels"])
        self.state = CheckpointState.load_checkpoint(str(Path(folder, "checkpoint")))
        self.module = Module(str(Path(folder, prefix + "training_model.onnx")), self.state)
        self.optimizer = Optimizer(str(Path(folder, "optimizer_model.onnx")), self.module)

    def __call__(self):
        loss = self.module(*self.batch)
        self.optimizer.step()
        self.module.lazy_reset_grad()
        return loss


def speed(rounds, subjects):
    """Seconds of one step in every round, by name; a step before each warms its caches."""
    loaded = {name: Subject(text) for name, text in subjects.items()}
    found = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, step in loaded.items():
            time.sleep(SETTLE_SECONDS)
            step()
            start = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - start)
    return found


def memory(steps, subjects):
    """Bytes of the process once the model is loaded, and at its peak while it trains."""
    ((_, text),) = subjects.items()
    subject = Subject(text)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    loaded = status("VmRSS")
    for _ in range(steps):
        subject()
    return {"loaded": loaded, "peak": status("VmHWM")}


def status(key):
    found = re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024


if __name__ == "__main__":
    kind, count, *named = sys.argv[1:]
    given = dict(item.split("=", 1) for item in named)
    print(json.dumps({"speed": speed, "memory": memory}[kind](int(count), given)))
