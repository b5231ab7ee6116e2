"""Some steps of the whole graph through onnxruntime-training's official API.

    python frozen.py FOLDER GIVEN LOSSES INFERENCE

FOLDER is a bundle's `onnxruntime-training/`, GIVEN an `.npz` of pictures, labels, lr and steps. The
losses go to LOSSES (`.npy`), the trained network, as the API writes it, to INFERENCE (`.onnx`).
"""

import sys
from pathlib import Path

import numpy as np
from onnxruntime.training.api import CheckpointState, Module, Optimizer


def main(folder, given, losses, inference):
    files, batch = Path(folder), dict(np.load(given))
    state = CheckpointState.load_checkpoint(str(files / "checkpoint"))
    module = Module(
        str(files / "whole_training_model.onnx"), state, str(files / "whole_eval_model.onnx")
    )
    optimizer = Optimizer(str(files / "optimizer_model.onnx"), module)
    optimizer.set_learning_rate(float(batch["lr"]))
    found = []
    for _ in range(int(batch["steps"])):
        module.train()
        loss, _ = module(batch["pictures"], batch["labels"])
        optimizer.step()
        module.lazy_reset_grad()
        found.append(float(loss))
    np.save(losses, np.array(found))
    module.eval()
    module(batch["pictures"], batch["labels"])
    module.export_model_for_inferencing(inference, ["output"])


if __name__ == "__main__":
    main(*sys.argv[1:])
