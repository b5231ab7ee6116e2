"""What mutated and reaching graphs do to the onnxruntime that is installed, scanned or not.

    python -m runtime_tests.attacks.graphs_on_release --count 1500 --seed 1
    python -m runtime_tests.attacks.graphs_on_release --bundle artifacts/demo-int8

With `--bundle` the training step of that bundle is what is mutated.

Every graph is loaded and run in a forked process of its own. docs/security.md has what it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.graph_scan import graph_problem
from runtime_tests.attacks.mutations import odd_bytes
from runtime_tests.attacks.odd_graphs import odd_graph
from runtime_tests.support.board.reaching_graphs import WAYS, write_reaching
from runtime_tests.support.board.tiny_bundle import FUNCTIONS, STATE, write_tiny_bundle

SECONDS = 10.0
RAN, REFUSED = 0, 1
ENDS = {RAN: "loaded and ran", REFUSED: "refused by onnxruntime"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="graphs_on_release")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, help="whose training step is mutated")
    options = parser.parse_args(argv)
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    report: dict[str, Any] = {"onnxruntime": onnxruntime.__version__, "python": sys.version[:6]}
    if options.bundle:
        report["mutated"] = _mutated_step(options.bundle, options.count, options.seed)
        print(json.dumps(report, indent=1))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        bundle = write_tiny_bundle(Path(scratch) / "bundle")
        report["reaching"] = _reaching(bundle)
        write_tiny_bundle(bundle)
        report["mutated"] = _mutated(bundle, options.count, options.seed)
    print(json.dumps(report, indent=1))
    return 0


def _reaching(bundle: Path) -> dict[str, str]:
    """Say what each way out of the file gives: a name of what was read, or why it was not."""
    secret = np.full(18, 0.25, np.float32).tobytes()
    (bundle.parent / "secret").write_bytes(secret)
    (bundle / "unlisted").write_bytes(secret)
    os.mkfifo(str(bundle / "pipe"))
    file = bundle / "onnxruntime" / "features.onnx"
    found = {}
    places = {
        "outside": "../../secret",
        "unlisted": "../unlisted",
        "beside": "unlisted",
        "pipe": "../pipe",
    }
    (bundle / "onnxruntime" / "unlisted").write_bytes(secret)
    for way in WAYS:
        for place, location in places.items():
            write_reaching(bundle, way, location)
            without = _ended(partial(_load, file))
            with_it = "refused" if graph_problem(file) else "NOT REFUSED"
            found[f"{way}, {place}"] = f"{without}; scan: {with_it}"
    return found


def _mutated(bundle: Path, count: int, seed: int) -> dict[str, Any]:
    def victim(draw: random.Random) -> tuple[Path, Callable[[], None]]:
        file = bundle / "onnxruntime" / f"{draw.choice(FUNCTIONS)}.onnx"
        return file, partial(_run, file)

    return _each_mutated(victim, count, seed)


def _mutated_step(path: Path, count: int, seed: int) -> dict[str, Any]:
    bundle = open_bundle(path)
    classes, batch = 2, 2
    feeds: dict[str, Any] = {
        **bundle.initial_state(classes, 0),
        "h": np.ones((batch, *bundle.manifest.feature.shape), np.float32),
        "labels": np.zeros(batch, np.int64),
        "lr": np.zeros((), np.float32),
    }
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "train_step.onnx"
        shutil.copy(bundle.file(bundle.manifest.runtimes["onnxruntime"].files["train_step"]), file)
        return _each_mutated(lambda _draw: (file, partial(_run_on, file, feeds)), count, seed)


def _each_mutated(
    victim: Callable[[random.Random], tuple[Path, Callable[[], None]]], count: int, seed: int
) -> dict[str, Any]:
    alone: Counter[str] = Counter()
    scanned: Counter[str] = Counter()
    for case in range(count):
        draw = random.Random(f"{seed} {case}")
        file, body = victim(draw)
        sound = file.read_bytes()
        file.write_bytes((odd_bytes if draw.random() < 0.5 else odd_graph)(sound, draw))
        ended = _ended(body)
        alone[ended] += 1
        scanned["refused by the scan" if graph_problem(file) else ended] += 1
        file.write_bytes(sound)
    return {"without the scan": dict(alone), "with the scan": dict(scanned)}


def _ended(body: Callable[[], None]) -> str:
    """Say how `body` ends in a forked process."""
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        try:
            body()
            os._exit(RAN)
        except BaseException:  # noqa: BLE001 - an error is what a sound reader gives
            os._exit(REFUSED)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
            return ENDS[os.WEXITSTATUS(status)]
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"hung for {SECONDS:.0f} s"


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if file.stem != "features":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _load(file: Path) -> None:
    _session(file)


def _run(file: Path) -> None:
    shapes = {entry["name"]: entry["shape"] for entry in STATE}
    given: dict[str, Any] = {
        key: np.zeros([2 if side == "K" else side for side in shape], np.float32)
        for key, shape in shapes.items()
    }
    given["images"] = np.zeros((1, 3, 8, 8), np.float32)
    given["h"] = np.zeros((1, 6, 2, 2), np.float32)
    given["labels"], given["lr"] = np.zeros(1, np.int64), np.zeros((), np.float32)
    _run_on(file, given)


def _run_on(file: Path, given: dict[str, Any]) -> None:
    session = _session(file)
    session.run(None, {one.name: given[one.name] for one in session.get_inputs()})


if __name__ == "__main__":
    raise SystemExit(main())
