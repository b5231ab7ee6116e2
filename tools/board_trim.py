"""Remove from a board's environment what no board needs, and say how much that frees.

    ssh pi@raspberrypi.local mobiletl/.venv/bin/python - < tools/board_trim.py

Plain files and Python 3.8: it runs on the board, from standard input.

- `onnxruntime/capi/libonnxruntime.so.*` of the aarch64 wheels: the runtime a second time, for C
  programs. Python loads the copy inside `onnxruntime_pybind11_state`.
- sympy, mpmath, coloredlogs, humanfriendly: onnxruntime up to 1.24 asks for them, and needs them
  in its tools for model authors alone. `pip check` names them as missing afterwards.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

SECOND_COPY = "libonnxruntime.so."
NEVER_IMPORTED = ("sympy", "mpmath", "coloredlogs", "humanfriendly")


def main() -> int:
    here = Path(sys.prefix).resolve()
    freed = 0
    try:
        files = metadata.distribution("onnxruntime").files or []
    except metadata.PackageNotFoundError:
        print("board_trim: no onnxruntime in this environment")
        return 1
    for file in files:
        place = Path(str(file.locate())).resolve()
        # Never outside the environment: the system's packages are apt's.
        if file.name.startswith(SECOND_COPY) and place.is_file() and here in place.parents:
            freed += place.stat().st_size
            place.unlink()
    unused = [name for name in NEVER_IMPORTED if _bytes_of(name, here)]
    freed += sum(_bytes_of(name, here) for name in unused)
    if unused:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "uninstall", "-qy"]
        subprocess.run([*pip, *unused], check=True, stdin=subprocess.DEVNULL)
    print(f"trimmed {freed / 1e6:.1f} MB that only C programs and model authors use")
    return 0


def _bytes_of(name: str, environment: Path) -> int:
    """Size of an installed package; 0 where it is not in this environment."""
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return 0
    places = [Path(str(file.locate())).resolve() for file in files]
    return sum(
        place.stat().st_size for place in places if place.is_file() and environment in place.parents
    )


if __name__ == "__main__":
    sys.exit(main())
