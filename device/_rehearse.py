"""Opens a bundle in a process that may die of it: `python _rehearse.py BUNDLE BLOCKS RUNTIME`.

Started by `sessions/rehearsal.py`, which has checked every file and reads the exit code alone.
"""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import sys
from pathlib import Path

from mobiletl.device.bundle.bundle import unchecked_bundle
from mobiletl.device.sessions.rehearsal import outcome
from mobiletl.device.sessions.table import known_runtime


def main() -> int:
    """Open and run; an error that is not the graphs' ends the process with code 1."""
    bundle = unchecked_bundle(Path(sys.argv[1])).at(int(sys.argv[2]))
    return outcome(bundle, known_runtime(sys.argv[3]))


if __name__ == "__main__":
    raise SystemExit(main())
