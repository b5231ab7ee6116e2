"""Put everything that a board installs into one folder, for boards without a network.

    make wheelhouse BOARD=pi4
    make wheelhouse BOARD=jetson-nano EXTRAS=studio,cameras
    python tools/wheelhouse.py pi4 --extras cameras --out usb-stick/pi4

The folder has this program's wheel, those of all it requires for the board's Python and C library,
`requirements.txt` with a version and a SHA-256 of each, and `bom.cdx.json`, the bill of materials
with licences (CycloneDX, bill_of_materials.py). It appears whole or not at all. On the board:

    python3 -m venv .venv
    .venv/bin/pip install --no-index --find-links . --require-hashes -r requirements.txt
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bill_of_materials import write_bill
from board_wheels import download, requirements
from own_wheel import WheelError, build_wheel
from packaging.utils import parse_wheel_filename

from mobiletl.device.diagnosis.boards import BOARDS, Board, board_named

REQUIREMENTS = "requirements.txt"
BILL = "bom.cdx.json"


class WheelhouseError(Exception):
    """Something that a person can mend; the message says how."""


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parser().parse_args(argv)
    out = flags.out or Path("dist") / f"wheelhouse-{flags.board}"
    extras = [name for name in flags.extras.split(",") if name]
    try:
        wheels = collect(board_named(flags.board), extras, out)
    except (WheelhouseError, WheelError) as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"wrote {out}: {len(wheels)} wheels, {size / 1e6:.1f} MB, {BILL}; on the board, there:")
    print("  python3 -m venv .venv")
    print(f"  .venv/bin/pip install --no-index --find-links . --require-hashes -r {REQUIREMENTS}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wheelhouse", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("board", choices=[board.name for board in BOARDS])
    add("--extras", default="", metavar="A,B", help="such as studio,cameras")
    add("--out", type=Path, metavar="DIR", help="default: dist/wheelhouse-BOARD; is replaced")
    return parser


def collect(board: Board, extras: Sequence[str], out: Path) -> list[Path]:
    """Write the folder `out` for `board`; return its wheels. Raises WheelhouseError, WheelError."""
    if out.exists() and not (out / REQUIREMENTS).is_file():
        raise WheelhouseError(f"{out} is there and is no wheelhouse; name another folder: OUT=DIR")
    try:
        wanted = requirements(board.python, extras)
    except KeyError as error:
        raise WheelhouseError(f"there is no extra {error}; see pyproject.toml") from error
    # What the board's processor runs, which a package's own range may exceed.
    wanted.append(f"onnxruntime=={board.onnxruntime}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "wheels"
        folder.mkdir()
        own = build_wheel(Path(scratch))
        try:
            wheels = download(board.python, board.glibc, wanted, folder)
        except subprocess.CalledProcessError as error:
            raise WheelhouseError(
                f"pip could not download for Python {board.python} and glibc {board.glibc}; it has "
                "said why above"
            ) from error
        wheels = sorted([*wheels, Path(shutil.copy(own, folder))])
        (folder / REQUIREMENTS).write_text(locked(wheels), "ascii")
        write_bill(wheels, own.name, board.python, folder / BILL)
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    return [out / wheel.name for wheel in wheels]


def locked(wheels: Sequence[Path]) -> str:
    """Return requirements that only these files fulfil."""
    lines = []
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
