"""`generate_artifacts`, the official builder, on a forward model: what ours is compared with.

    python generate.py FORWARD.onnx OUT TRAINED_NAMES

TRAINED_NAMES is a text file, one initializer a line; every other initializer is frozen.
"""

import sys
from pathlib import Path

import onnx
from onnxruntime.training import artifacts

# onnx writes newer ones than onnxruntime 1.19.2 reads.
IR_VERSION = 10


def main(forward, out, names):
    model = onnx.load(forward)
    trained = Path(names).read_text().split()
    initializers = [tensor.name for tensor in model.graph.initializer]
    artifacts.generate_artifacts(
        model,
        requires_grad=trained,
        frozen_params=[name for name in initializers if name not in trained],
        loss=artifacts.LossType.CrossEntropyLoss,
        optimizer=artifacts.OptimType.SGD,
        artifact_directory=out,
    )
    for file in Path(out).glob("*.onnx"):
        written = onnx.load(str(file))
        written.ir_version = min(written.ir_version, IR_VERSION)
        onnx.save(written, str(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
