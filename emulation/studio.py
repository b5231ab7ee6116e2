"""The studio on an emulated board: `python -m emulation.studio pi4`; `make emulate-studio`.

Nobody looks at a page there: a client on the board asks for what the page asks for. The bars are
what a visitor must get, what the server may take of memory above its libraries, and what the
training may take beside its plan.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emulation.engine import SHARED, Installed, choose
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import NAMES, machine
from emulation.trial import RESULTS, SCRIPT, Check
from tools.own_wheel import build_wheel
from tools.studio_demo import QUALITY, SCENES

CLIENT = Path(__file__).with_name("studio_on_board.py")
EXTRA = "studio"
PICTURES, PLAYED = 6, 4
SERVER_LIMIT_BYTES = 60_000_000
# Of the whole process that trains.
MEMORY_TOLERANCE = 0.05
TIMEOUT_S = 7200


def main(argv: Sequence[str] | None = None) -> int:
    """Emulate; 0 if every bar holds, 1 if not, 2 if nothing here can emulate."""
    parser = argparse.ArgumentParser(prog="python -m emulation.studio", description=__doc__)
    parser.add_argument("boards", nargs="*", default=["pi4", "pi-zero2"], metavar="BOARD")
    parser.add_argument("--engine", default="", help="docker or chroot (default: the first)")
    flags = parser.parse_args(argv)
    if set(flags.boards) - set(NAMES):
        parser.error(f"the boards are {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wheel = build_wheel(Path(scratch) / "wheel")
            held = [_emulated(one, flags, wheel) for one in flags.boards]
            return 0 if all(held) else 1
        except (CannotEmulate, BoardFailed, subprocess.SubprocessError) as error:
            print(f"emulate: {error}", file=sys.stderr)
            return 2 if isinstance(error, CannotEmulate) else 1


def _emulated(name: str, flags: argparse.Namespace, wheel: Path) -> bool:
    board = machine(name, extra=EXTRA)
    print(f"{board.board.title} ({board.board.cpu}, Debian {board.board.debian})", flush=True)
    installed = choose(board, flags.engine).install(board, wheel)
    with tempfile.TemporaryDirectory() as scratch:
        found = checks(run_studio(installed, pack_studio(Path(scratch))))
    for check in found:
        print(f"  {check.name:<27}{check.found}{'' if check.holds else '  TOO FAR'}", flush=True)
    return all(check.holds for check in found)


def pack_studio(folder: Path) -> Path:
    """Fill `folder` with what the board gets: scripts, the demo's bundle and its scenes."""
    for script in (CLIENT, SCRIPT):
        shutil.copy(script, folder)
    command = [str(Path(sys.executable).with_name("mobiletl")), "export", "--weights", "demo"]
    command += ["--method", "mobiletl", "--blocks", "3", "--out", str(folder / "bundle")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (folder / "camera").mkdir()
    for scene in SCENES:
        photos = folder / "photos" / scene.name
        photos.mkdir(parents=True)
        for number, frame in enumerate(scene.frames(PICTURES + PLAYED)):
            # Every fifth or so is for the camera, so that it shows views that were not uploaded.
            played = number % 5 in (1, 3)
            path = folder / "camera" / f"{number}-{scene.name}.jpg" if played else photos
            frame.save(path if played else path / f"{number}.jpg", quality=QUALITY)
    return folder


def run_studio(installed: Installed, folder: Path) -> dict[str, Any]:
    """Use the studio on the board; `folder` as `pack_studio` left it."""
    command = ["python", f"{SHARED}/{CLIENT.name}", SHARED]
    done = installed.run(folder, command, TIMEOUT_S)
    if done.returncode:
        raise BoardFailed(f"{CLIENT.name} ended with {done.returncode}:\n{done.stdout}")
    found: dict[str, Any] = json.loads((folder / RESULTS).read_text("utf-8"))
    return found


def checks(board: dict[str, Any]) -> list[Check]:
    """The bars, of what the client has found."""
    names = {scene.name for scene in SCENES}
    above = board["server_bytes"] - board["libraries_bytes"]
    training, answer = board["training"], board["answer"]["labels"][0]
    peak, planned = board["training_bytes"], 1e6 * training["planned_mb"]
    return [
        Check(
            "pictures",
            f"{board['classes']}, and {board['recorded']} recorded, then deleted",
            board["classes"] == dict.fromkeys(names, PICTURES) and board["recorded"] > 0,
        ),
        Check(
            "live answer",
            f"{answer['label']}, {answer['probability']:.1%}",
            answer["label"] in names,
        ),
        Check(
            "training",
            f"{training['state']}, {training['epochs']} epoch in {board['training_seconds']:.0f} s",
            training["state"] == "finished",
        ),
        Check(
            "versions",
            f"{', '.join(board['versions'])}; a state of {board['state_bytes'] / 1e6:.1f} MB, "
            f"ONNX of {board['onnx_bytes'] / 1e6:.1f} MB",
            sorted(board["versions"]) == ["taught", "trained"]
            and board["using"] == training["version"]
            and min(board["state_bytes"], board["onnx_bytes"]) > 100_000,
        ),
        Check(
            "server above its libraries",
            f"{above / 1e6:.1f} MB above {board['libraries_bytes'] / 1e6:.1f} (at most "
            f"{SERVER_LIMIT_BYTES / 1e6:.0f})",
            above <= SERVER_LIMIT_BYTES,
        ),
        Check(
            "training's memory",
            f"{peak / 1e6:.1f} MB, planned {planned / 1e6:.1f}, {peak / planned - 1:+.1%} (at most "
            f"{MEMORY_TOLERANCE:.0%}; QEMU itself {board['emulator_bytes'] / 1e6:.1f} MB, not "
            "counted)",
            abs(peak / planned - 1) <= MEMORY_TOLERANCE,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
