"""Takes pictures in a process of its own: `python _take.py ORDER RESULT`, two descriptors.

Started by `commands/taking_apart.py`, which says there what goes through them.
"""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import sys

from mobiletl.device.commands.taking_apart import serve

if __name__ == "__main__":
    raise SystemExit(serve(int(sys.argv[1]), int(sys.argv[2])))
