"""Decodes one picture in a process that may die of it: `python _decode.py FILE SIDE BYTES`.

Started by `studio/decoding.py`, which says there what comes back.
"""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import sys
from pathlib import Path

from mobiletl.device.studio.decoding import serve

if __name__ == "__main__":
    raise SystemExit(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
