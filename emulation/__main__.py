"""`python -m emulation`: see the package; `make emulate` calls it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emulation.engine import choose
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import NAMES, Machine, machine
from emulation.trial import (
    checks,
    pack,
    run_here,
    run_on,
)
from tools.own_wheel import build_wheel

EXAMPLES = """\
to paste:
  make emulate BOARD=pi5
  make emulate BOARD=all ENGINE=docker
  python -m emulation jetson-nano --onnxruntime 1.16.3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Emulate; 0 if every bar holds, 1 if not, 2 if nothing here can emulate, 130 if stopped."""
    flags = _parser().parse_args(argv)
    names = NAMES if flags.board == "all" else (flags.board,)
    machines = [machine(name, flags.onnxruntime) for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            reports = _emulate(flags, machines, Path(scratch))
        except (CannotEmulate, BoardFailed, subprocess.SubprocessError) as error:
            print(f"emulate: {error}", file=sys.stderr)
            return 2 if isinstance(error, CannotEmulate) else 1
        except KeyboardInterrupt:
            print("emulate: stopped", file=sys.stderr)
            return 130
    return 0 if all(reports) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulation",
        description="Install on an emulated board, train, resume and predict there.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("board", nargs="?", default=NAMES[0], choices=(*NAMES, "all"), help="default: pi4")
    add("--engine", default="", help="docker or chroot (default: the first that can)")
    add("--onnxruntime", metavar="VERSION", help="default: the newest that works on the board")
    add("--bundle", type=Path, metavar="DIR", help="default: the embedded network, 64 px")
    add("--pictures", type=Path, metavar="DIR", help="default: 80 handwritten digits, and 20")
    return parser


def _emulate(flags: argparse.Namespace, machines: list[Machine], scratch: Path) -> list[bool]:
    """Whether all bars hold, board by board."""
    engines = [choose(each, flags.engine) for each in machines]
    wheel = build_wheel(scratch / "wheel")
    here = run_here(pack(scratch / "here", flags.bundle, flags.pictures))
    verdicts = []
    for each, engine in zip(machines, engines, strict=True):
        print(f"{each.board.title} ({each.board.cpu}, Debian {each.board.debian}, {engine.name})")
        started = time.monotonic()
        installed = engine.install(each, wheel)
        _say("installed", f"{time.monotonic() - started:.0f} s")
        folder = pack(scratch / each.board.name, scratch / "here/bundle", scratch / "here/photos")
        verdicts.append(_report(run_on(installed, folder), here))
    return verdicts


def _report(board: dict[str, Any], here: dict[str, Any]) -> bool:
    versions = ", ".join(f"{name} {version}" for name, version in board["versions"].items())
    _say("runs", f"{board['machine']}, Python {board['python']}, {versions}")
    _say("trained", f"{board['epochs'][-1]['step']} steps in {board['train_seconds']:.0f} s")
    found = checks(board, here)
    for check in found:
        _say(check.name, f"{check.found}{'' if check.holds else '  TOO FAR'}")
    return all(check.holds for check in found)


def _say(name: str, text: str) -> None:
    print(f"  {name:<27}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
