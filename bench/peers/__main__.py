"""`python -m bench.peers`: a step of MNN and of Keras's frozen network beside ours.

MobileNetV2 1.0, 224 px, batch 8, two threads. MNN trains the top 3 blocks as we do; Keras trains a
dense layer on frozen layers, which is what recorders of cameras do. Each contender is a process,
and they take turns. Memory is what the kernel says that each process took at most, without decoding
of pictures. Accuracy is not compared: weights of the peers are random.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.peers.protocol import BATCH, MEMORY, REPOSITORY, STEP, WHOLE, Worker
from bench.timing import side_by_side
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

MODEL, BLOCKS, SIDE = "mbv2", 3, 224
OWN = REPOSITORY / ".venv" / "bin" / "python"
MNN, KERAS = (REPOSITORY / f".venv-{name}" / "bin" / "python" for name in ("mnn", "keras"))
OURS, OURS_INT8 = "mobiletl, 3 blocks", "mobiletl, 3 blocks, int8"


def main() -> int:
    """Measure what is installed, and print a table."""
    return guarded(lambda: _compare(_parser().parse_args()))


def _compare(flags: argparse.Namespace) -> int:
    if not MNN.exists() and not KERAS.exists():
        raise UsageError("no peer is installed here; make bench-peers does it")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as opened:
        workers = {
            name: opened.enter_context(worker)
            for name, worker in _workers(flags, Path(scratch)).items()
        }
        parts = {
            f"{name}: {part}": lambda worker=worker, part=part: worker.call(part)
            for name, worker in workers.items()
            for part in (WHOLE, STEP)
        }
        timings = side_by_side(parts, flags.rounds)
        memory = {name: worker.call(MEMORY) for name, worker in workers.items()}
    print("| | pictures/s, frozen layers too | ours is faster by | step, ms | ours by | peak MB |")
    print("|---|---|---|---|---|---|")
    for name in workers:
        whole, step = timings[f"{name}: {WHOLE}"], timings[f"{name}: {STEP}"]
        faster = [
            timings[f"{OURS}: {part}"].times_faster_than(timings[f"{name}: {part}"])
            for part in (WHOLE, STEP)
        ]
        most = memory[name]
        assert most is not None
        print(
            f"| {name} | {BATCH / whole.median:.0f} | {faster[0]:.1f} x | "
            f"{1e3 * step.median:.1f} | {faster[1]:.1f} x | {most / 1e6:.0f} |"
        )
    return 0


def _workers(flags: argparse.Namespace, scratch: Path) -> dict[str, Worker]:
    """Start them, one after another."""
    bundle = _exported(flags.weights, scratch / "float", "float32")
    workers = {
        OURS: Worker(OWN, "bench.peers.ours", str(bundle)),
        OURS_INT8: Worker(
            OWN, "bench.peers.ours", str(_exported(flags.weights, scratch / "int8", "int8"))
        ),
    }
    if MNN.exists():
        features = scratch / "features.mnn"
        graph = bundle / "onnxruntime" / "features.onnx"
        convert = [str(MNN.with_name("mnnconvert")), "-f", "ONNX", "--bizCode", "mobiletl"]
        convert += ["--modelFile", str(graph), "--MNNModel", str(features)]
        subprocess.run(convert, check=True, capture_output=True)
        workers["MNN, 3 blocks"] = Worker(MNN, "bench.peers.mnn", str(features))
    if KERAS.exists():
        workers["Keras, a dense layer"] = Worker(KERAS, "bench.peers.keras")
    return workers


def _exported(weights: str, out: Path, step: str) -> Path:
    request = Request(MODEL, weights, "mobiletl", BLOCKS, SIDE, "sgd", out, step=step)
    return export_bundle(request)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description="Training steps of peers beside ours."
    )
    parser.add_argument("--weights", default="none", help="as for mobiletl export (default: none)")
    parser.add_argument("--rounds", type=int, default=15)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
