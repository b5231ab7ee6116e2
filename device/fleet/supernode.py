"""Flower's SuperNode as a child that ends with its parent, which may be killed."""

from __future__ import annotations

import os
import sys

from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supernode.cli import flower_supernode

from mobiletl.device.printable import one_line, say


def main() -> None:
    """Run `flower-supernode` with the arguments behind the first, which is the parent's id.

    A server that was started anew knows no node of before, and Flower's main thread ends with an
    error there. Its other threads would go on, and so would a process that does nothing any more.
    """
    start_parent_process_monitor(int(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    try:
        flower_supernode()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    # Whatever it is: joining.py starts the next one.
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        say(f"Flower's SuperNode ends: {type(error).__name__}: {one_line(error)}", sys.stderr)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
