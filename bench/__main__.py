"""`python -m bench`: see the package."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.exported import BYTES, FLOATS, ROWS, STEP, export_row, wants_pictures
from bench.processes import board_memory, eager_memory, unpacked
from bench.report import Process, conditions, memory_lines, speed_lines
from bench.speed import BLOCKS, EAGER, measure_speed
from runtime_tests.support.board.shared_files import SHARED

WEIGHTS = SHARED / "weights" / "mobilenet_v2-imagenet.safetensors"
PICTURES = SHARED / "data" / "animals4.zip"


def main() -> None:
    flags = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = unpacked(flags.pictures, scratch / "pictures") if flags.pictures.exists() else None
        bundles = {
            name: export_row(name, flags.weights, flags.blocks, data and data / "train", scratch)
            for name in ROWS
            if data is not None or not wants_pictures(name)
        }
        speed = measure_speed(flags.weights, bundles, flags.blocks, flags.rounds)
        processes = [] if data is None else _processes(flags, bundles, data, scratch)
    facts = conditions(flags.weights, flags.blocks, flags.rounds)
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
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="trained (default: 3)")
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


def _processes(
    flags: argparse.Namespace, bundles: dict[str, Path], data: Path, scratch: Path
) -> list[Process]:
    """Ours by default, in floats, in bytes and without augmentation, then eager PyTorch."""
    runs = (
        ("defaults", STEP, ()),
        ("no augmentation", STEP, ("--no-augment",)),
        ("floats", FLOATS, ()),
        ("all int8", BYTES, ()),
    )
    found = []
    for name, bundle, switches in runs:
        measured, planned = board_memory(bundles[bundle], data, scratch / name, *switches)
        found.append(Process(f"train_on_board.py, {name}", measured, planned))
    return [*found, Process(EAGER, eager_memory(flags.weights, data, flags.blocks))]


if __name__ == "__main__":
    main()
