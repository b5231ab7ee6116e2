"""What live labels cost beside the network, and whether a long run grows.

    python -m bench.live --bundle artifacts/mbv2 --state runs/first/state.safetensors --data photos
    python -m bench.live --bundle artifacts/demo --state ... --data photos --frames 50000

The first times frames from the camera to the answer against the network alone (features and embed
on the same number of threads), in rounds that follow one another; the second plays a folder or a
video in a process of its own and watches its memory and its descriptors.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.live.long_run import lines, long_run
from bench.live.speed import speed
from mobiletl.device.commands.table import guarded


def main(argv: list[str] | None = None) -> int:
    """Measure what the flags ask for and print it."""
    return guarded(lambda: _measure(_parser().parse_args(argv)))


def _measure(flags: argparse.Namespace) -> int:
    if flags.frames:
        threads = ("--threads", str(flags.threads))
        growth = long_run(flags.bundle, flags.state, flags.data, flags.frames, *threads)
        print("\n".join(lines(growth)))
        return growth.exit_code
    for line in speed(flags.bundle, flags.state, flags.data, flags.threads, flags.rounds):
        print(line, flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True)
    add("--state", type=Path, required=True)
    add("--data", type=Path, required=True, help="a folder of pictures, or with --frames a video")
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=15)
    add("--frames", type=int, default=0, help="play so many and watch the memory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
