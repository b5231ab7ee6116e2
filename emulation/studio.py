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

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from emulation.engine import SHARED, Installed, choose
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import NAMES, machine
from emulation.trial import RESULTS, SCRIPT, Check
from tools.own_wheel import build_wheel
from tools.studio_demo import QUALITY, SCENES, write_camera

CLIENT = Path(__file__).with_name("studio_on_board.py")
SCRIPTS = ("studio_on_board.py", "studio_client.py", "studio_senses.py")
EXTRA = "studio"
LATER = "chalk"
# Frames of each scene that the camera shows, four a second; as studio_on_board.py has the rest.
FRAMES = 40
RECORDED, EPOCHS = 20, 8
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
        folder = pack_studio(Path(scratch))
        found = checks(run_studio(installed, folder), folder)
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


def run_studio(installed: Installed, folder: Path) -> dict[str, Any]:
    """Use the studio on the board; `folder` as `pack_studio` left it."""
    command = ["python", f"{SHARED}/{CLIENT.name}", SHARED]
    done = installed.run(folder, command, TIMEOUT_S)
    if done.returncode:
        raise BoardFailed(f"{CLIENT.name} ended with {done.returncode}:\n{done.stdout}")
    found: dict[str, Any] = json.loads((folder / RESULTS).read_text("utf-8"))
    return found


def checks(board: dict[str, Any], folder: Path) -> list[Check]:
    """The bars, of what the client has found and left in `folder`."""
    names = [scene.name for scene in SCENES]
    above = board["server_bytes"] - board["libraries_bytes"]
    training = board["training"]
    peak, planned = board["training_bytes"], 1e6 * training["planned_mb"]
    seconds = board["label_seconds"]
    return [
        Check(
            "recorded pictures",
            ", ".join(f"{name} {count}" for name, count in board["recorded"].items()),
            list(board["recorded"]) == [*names, LATER]
            and min(board["recorded"].values()) >= RECORDED,
        ),
        Check(
            "right live label",
            ", ".join(f"{name} after {seconds[name]:.1f} s" for name in seconds)
            + f"; the first three {board['first_success_seconds']:.0f} s after an empty page",
            list(seconds) == [*names, LATER],
        ),
        Check(
            "training",
            f"{training['state']}, {training['epochs']} epochs in "
            f"{board['training_seconds']:.0f} s, accuracy {board['versions']['trained']}",
            training["state"] == "finished"
            and [one["epoch"] for one in training["history"]] == list(range(EPOCHS + 1))
            and board["versions"]["trained"] is not None,
        ),
        _nothing_is_lost(board),
        Check(
            "a picture deleted",
            "{before} before, {after} after".format(**board["deleted"]),
            board["deleted"]["after"] == board["deleted"]["before"] - 1
            and board["classes"]["digit"] == board["deleted"]["after"],
        ),
        _network_agrees(board, folder),
        Check(
            "server above its libraries",
            f"{above / 1e6:.1f} MB above {board['libraries_bytes'] / 1e6:.1f} (at most "
            f"{SERVER_LIMIT_BYTES / 1e6:.0f}; QEMU itself "
            f"{board['server_emulator_bytes'] / 1e6:.1f} MB, not counted)",
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


def _nothing_is_lost(board: dict[str, Any]) -> Check:
    """While it trains: the page's events are broken off, and the server is killed."""
    recorded = sum(board["recorded"][scene.name] for scene in SCENES)
    return Check(
        "reload, killed server",
        f"told of '{board['reloaded'][1]}', then of '{board['returned'][1]}' and "
        f"{board['returned_pictures']} pictures",
        board["reloaded"] == [True, "training"]
        and board["alone"]
        and board["returned"] == [True, "training"]
        and board["returned_pictures"] == recorded,
    )


def _network_agrees(board: dict[str, Any], folder: Path) -> Check:
    """The downloaded network, here and with nothing of ours, names what the page names."""
    network = folder / "network.onnx"
    rows = [(label, _label(network, folder / "answered" / f)) for _, f, label in board["answered"]]
    agreeing = sum(one == other for one, other in rows)
    return Check(
        "ONNX beside the page",
        f"{agreeing} of {len(rows)} labels the same",
        agreeing == len(rows) > 0 and board["using"] == board["training"]["version"],
    )


def _label(network: Path, picture: Path) -> str:
    """What the network says of a picture, prepared as docs/finish.md tells other programs to."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["mobiletl"])
    size = facts["input"]
    image = Image.open(picture).convert("RGB")
    grown = size["resize"] / min(image.size)
    image = image.resize((round(image.width * grown), round(image.height * grown)), 2)
    left, top = ((side - size["resolution"]) // 2 for side in image.size)
    image = image.crop((left, top, left + size["resolution"], top + size["resolution"]))
    values = (np.asarray(image, np.float32) / 255 - size["mean"]) / size["std"]
    tensor = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)
    logits = session.run(["logits"], {session.get_inputs()[0].name: tensor})[0][0]
    return str(facts["classes"][int(logits.argmax())])


if __name__ == "__main__":
    sys.exit(main())
