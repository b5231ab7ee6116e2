"""`python -m bench.operators BUNDLE [BUNDLE ...]`: where the time of a training step goes.

Every step runs in onnxruntime's profiler, as a board runs it. A node's time is its median over all
rounds; the table sums them up by operator, the most expensive of the first bundle first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnxruntime

from bench.graphs import step_options
from mobiletl.device.bundle.bundle import Bundle, open_bundle

CLASSES, WARM = 10, 3
Times = dict[str, tuple[int, float]]


def main(argv: list[str] | None = None) -> int:
    """Print a row per operator."""
    parser = argparse.ArgumentParser(prog="python -m bench.operators", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    flags = parser.parse_args(argv)
    found = [_times(open_bundle(path), flags) for path in flags.bundles]
    names = sorted({name for times in found for name in times}, key=lambda n: _order(n, found))
    print("| operator | " + " | ".join(f"{path}: nodes | ms" for path in flags.bundles) + " |")
    for name in names:
        _row(name, [times.get(name, (0, 0.0)) for times in found])
    totals = [
        (sum(n for n, _ in times.values()), sum(s for _, s in times.values())) for times in found
    ]
    _row("all", totals)
    return 0


def _order(name: str, found: list[Times]) -> tuple[float, ...]:
    return tuple(-times.get(name, (0, 0.0))[1] for times in found)


def _row(name: str, cells: list[tuple[int, float]]) -> None:
    texts = (f"{count or ''} | {1e3 * seconds:.2f}" for count, seconds in cells)
    print(f"| {name} | " + " | ".join(texts) + " |")


def _times(bundle: Bundle, flags: argparse.Namespace) -> Times:
    """(nodes, seconds) by operator."""
    path = bundle.file(bundle.manifest.runtimes["onnxruntime"].files["train_step"])
    with tempfile.TemporaryDirectory() as folder:
        options = step_options(flags.threads)
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/step"
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        feeds = _feeds(bundle, flags.batch)
        for _ in range(WARM + flags.rounds):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seconds[event["args"]["op_name"], event["name"]].append(1e-6 * event["dur"])
    nodes: Counter[str] = Counter()
    sums: dict[str, float] = defaultdict(float)
    for (operator, _), durations in seconds.items():
        nodes[operator] += 1
        sums[operator] += float(np.median(durations[WARM:]))
    return {operator: (nodes[operator], sums[operator]) for operator in nodes}


def _feeds(bundle: Bundle, batch: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    h = generator.standard_normal((batch, *bundle.manifest.feature.shape), np.float32)
    return {
        **bundle.initial_state(CLASSES, 0),
        "h": h,
        "labels": np.arange(batch, dtype=np.int64) % CLASSES,
        "lr": np.array(1e-3, np.float32),
    }


if __name__ == "__main__":
    sys.exit(main())
