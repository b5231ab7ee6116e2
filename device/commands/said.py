"""What a command says at its end, on streams that may be closed, full, or read by nobody any more.

The exit code tells how a command went. That its last line could not be shown changes nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import sys

from mobiletl.device.printable import printable

STREAMS = ("stdout", "stderr")


def open_streams() -> None:
    """Put a stream that swallows everything where a process was started with a closed one.

    Python has None there, and whatever prints would end in a traceback.
    """
    for name in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def complain(line: str) -> None:
    """Write `line` to standard error, if that still works."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(printable(line, getattr(sys.stderr, "encoding", None)) + "\n")
        sys.stderr.flush()


def silence(*names: str) -> None:
    """Send what these streams still hold, and all that comes, nowhere.

    Otherwise Python complains once more when it flushes on exit, and makes that its exit code.
    """
    for name in names:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, getattr(sys, name).fileno())
            os.close(nowhere)


def flush_all() -> None:
    """Write out what standard output holds; raises OSError, BrokenPipeError among them.

    Standard error that nobody reads is no error.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        silence("stderr")
    sys.stdout.flush()
