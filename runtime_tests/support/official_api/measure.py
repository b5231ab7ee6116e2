"""Steps of training through the official API with default options, and what memory they take.

    python measure.py turns NAME=FOLDER:PREFIX:INPUT ...
    python measure.py memory STEPS NAME=FOLDER:PREFIX:INPUT

FOLDER holds the four files, PREFIX starts the names of the two models, INPUT is an `.npz` with the
arrays `x` and `labels`. PREFIX `stock` stands for the graphs of a bundle beside `state.npz`, which
the package's inference sessions run.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.training.api import CheckpointState, Module, Optimizer


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


class Stock:
    """The graphs of a bundle, as docs/bundle.md has them run; pictures go through `features`, one
    by one, maps do not.
    """

    def __init__(self, text):
        folder, _, arrays = text.split(":")
        given = np.load(arrays)
        self.x, self.labels = given["x"], given["labels"]
        self.features = None
        if self.x.shape[1] == 3:
            self.features = onnxruntime.InferenceSession(str(Path(folder, "features.onnx")))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_mem_pattern = options.enable_mem_reuse = False
        self.step = onnxruntime.InferenceSession(str(Path(folder, "train_step.onnx")), options)
        state = np.load(Path(folder, "state.npz"))
        self.state = {name: np.ascontiguousarray(state[name]) for name in state.files}
        self.loss = np.zeros((), np.float32)

    def __call__(self):
        h = self.x
        if self.features is not None:
            h = np.concatenate([self.features.run(None, {"images": x[None]})[0] for x in self.x])
        binding = self.step.io_binding()
        batch = {"h": h, "labels": self.labels, "lr": np.array(1e-3, np.float32)}
        for name, value in {**self.state, **batch}.items():
            binding.bind_cpu_input(name, value)
        for name, value in self.state.items():
            shape, place = value.shape, value.ctypes.data
            binding.bind_output(name + ".next", "cpu", 0, np.float32, shape, place)
        binding.bind_output("loss", "cpu", 0, np.float32, (), self.loss.ctypes.data)
        self.step.run_with_iobinding(binding)
        return float(self.loss)


def loaded_subject(text):
    """What `text` names, by its prefix."""
    return (Stock if text.split(":")[1] == "stock" else Subject)(text)


def turns(subjects):
    """Take a step of a subject whenever a line names it, and answer with a line; whoever asks times
    that, beside programs of other processes.
    """
    loaded = {name: loaded_subject(text) for name, text in subjects.items()}
    print("loaded", flush=True)
    for line in sys.stdin:
        loaded[line.strip()]()
        print("done", flush=True)


def memory(steps, subjects):
    """Bytes of the process once the model is loaded, and at its peak while it trains."""
    ((_, text),) = subjects.items()
    subject = loaded_subject(text)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    loaded = status("VmRSS")
    for _ in range(steps):
        subject()
    return {"loaded": loaded, "peak": status("VmHWM")}


def status(key):
    found = re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024


def named(words):
    return dict(word.split("=", 1) for word in words)


if __name__ == "__main__":
    if sys.argv[1] == "turns":
        turns(named(sys.argv[2:]))
    else:
        print(json.dumps(memory(int(sys.argv[2]), named(sys.argv[3:]))))
