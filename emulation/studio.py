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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from emulation.engine import SHARED, Installed, choose
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import NAMES, machine
from emulation.studio_checks import LATER, checks
from emulation.trial import RESULTS, SCRIPT
from tools.own_wheel import build_wheel
from tools.studio_demo import QUALITY, SCENES, write_camera

CLIENT = Path(__file__).with_name("studio_on_board.py")
SCRIPTS = ("studio_on_board.py", "studio_client.py", "studio_senses.py")
EXTRA = "studio"
HERE = "here"
# Frames of each scene that the camera shows, four a second; as studio_on_board.py has the rest.
FRAMES = 40
# So many that the training outlasts a server that is killed and started again.
EPOCHS, EPOCHS_HERE = 16, 100
TIMEOUT_S = 7200


def main(argv: Sequence[str] | None = None) -> int:
    """Emulate; 0 if every bar holds, 1 if not, 2 if nothing here can emulate."""
    parser = argparse.ArgumentParser(prog="python -m emulation.studio", description=__doc__)
    parser.add_argument("boards", nargs="*", default=["pi4", "pi-zero2"], metavar="BOARD")
    parser.add_argument("--engine", default="", help="docker or chroot (default: the first)")
    flags = parser.parse_args(argv)
    if set(flags.boards) - {*NAMES, HERE}:
        parser.error(f"the boards are {', '.join(NAMES)}; `{HERE}` is this machine, not emulated")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wheel = build_wheel(Path(scratch) / "wheel")
            held = [_emulated(one, flags, wheel) for one in flags.boards]
            return 0 if all(held) else 1
        except (CannotEmulate, BoardFailed, subprocess.SubprocessError) as error:
            print(f"emulate: {error}", file=sys.stderr)
            return 2 if isinstance(error, CannotEmulate) else 1


@dataclass(frozen=True)
class Here:
    """This machine, with the environment that this runs in."""

    def run(
        self, shared: Path, command: Sequence[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """See engine.Installed; what runs is Python."""
        words = [word.replace(SHARED, str(shared)) for word in command[1:]]
        return subprocess.run(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def _emulated(name: str, flags: argparse.Namespace, wheel: Path) -> bool:
    installed: Installed = Here()
    epochs = EPOCHS_HERE if name == HERE else EPOCHS
    if name == HERE:
        print("this machine", flush=True)
    else:
        board = machine(name, extra=EXTRA)
        print(f"{board.board.title} ({board.board.cpu}, Debian {board.board.debian})", flush=True)
        installed = choose(board, flags.engine).install(board, wheel)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pack_studio(Path(scratch))
        found = checks(run_studio(installed, folder, epochs), folder)
    for check in found:
        print(f"  {check.name:<27}{check.found}{'' if check.holds else '  TOO FAR'}", flush=True)
    return all(check.holds for check in found)


def pack_studio(folder: Path) -> Path:
    """Fill `folder` with what the board gets: scripts, the demo's bundle and its camera."""
    for script in (*(CLIENT.with_name(name) for name in SCRIPTS), SCRIPT):
        shutil.copy(script, folder)
    command = [str(Path(sys.executable).with_name("mobiletl")), "export", "--weights", "demo"]
    command += ["--method", "mobiletl", "--blocks", "3", "--out", str(folder / "bundle")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    camera = folder / "camera"
    write_camera(camera, FRAMES, 1)
    # The class that comes later: the same digits, as chalk on a blackboard.
    for path in sorted(camera.glob("*-digit-*")):
        frame = ImageOps.invert(Image.open(path))
        frame.save(camera / f"{len(SCENES)}-{LATER}-{path.stem[-4:]}.jpg", quality=QUALITY)
    return folder


def run_studio(installed: Installed, folder: Path, epochs: int = EPOCHS) -> dict[str, Any]:
    """Use the studio on the board; `folder` as `pack_studio` left it."""
    command = ["python", f"{SHARED}/{CLIENT.name}", SHARED, str(epochs)]
    done = installed.run(folder, command, TIMEOUT_S)
    if done.returncode:
        raise BoardFailed(f"{CLIENT.name} ended with {done.returncode}:\n{done.stdout}")
    found: dict[str, Any] = json.loads((folder / RESULTS).read_text("utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
