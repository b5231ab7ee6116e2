"""`python -m bench`: see the package."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.eager import MODEL
from bench.processes import board_memory, eager_memory, unpacked
from bench.report import Process, conditions, memory_lines, speed_lines
from bench.speed import BLOCKS, EAGER, SIDE, measure_speed
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support.board.shared_files import SHARED

METHODS = ("mobiletl", "ft-blocks")
WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet.safetensors"
PICTURES = SHARED / "data" / "animals4.zip"


def main() -> None:
    flags = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        bundles = {method: _export(flags.weights, method, scratch) for method in METHODS}
        speed = measure_speed(flags.weights, bundles, flags.rounds)
        processes = _processes(flags, bundles["mobiletl"], scratch)
    facts = conditions(flags.weights, flags.rounds)
    if flags.json:
        memory = [asdict(process) for process in processes]
        print(json.dumps({"conditions": facts, "speed": asdict(speed), "memory": memory}))
        return
    print("\n".join(f"{name:<10}{text}" for name, text in facts.items()), end="\n\n")
    print("\n".join(speed_lines(speed)), end="\n\n")
    if processes:
        print("\n".join(memory_lines(processes)))
    else:
        print(f"peak memory not measured: no pictures at {flags.pictures}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Speed and memory beside eager PyTorch's."
    )
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--weights",
        default=str(WEIGHTS) if WEIGHTS.exists() else "none",
        help="as for mobiletl export (default: ../shared/weights, or random where that is missing)",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        default=PICTURES,
        help="zip of split/class/file.jpg for the memory section (default: ../shared/data)",
    )
    return parser


def _export(weights: str, method: str, scratch: Path) -> Path:
    request = Request(MODEL, weights, method, BLOCKS, SIDE, "sgd", scratch / method)
    return export_bundle(request)


def _processes(flags: argparse.Namespace, bundle: Path, scratch: Path) -> list[Process]:
    """Ours as by default and without augmentation, then eager PyTorch; nothing without pictures."""
    if not flags.pictures.exists():
        return []
    data = unpacked(flags.pictures, scratch / "pictures")
    found = []
    for name, switches in (("defaults", ()), ("no augmentation", ("--no-augment",))):
        measured, planned = board_memory(bundle, data, scratch / name, *switches)
        found.append(Process(f"train_on_board.py, {name}", measured, planned))
    return [*found, Process(EAGER, eager_memory(flags.weights, data))]


if __name__ == "__main__":
    main()
