"""Processes that outlive the server: started in a session of their own, found again by number.

A number alone may be another process by now, so the time at which it began belongs to it, and which
start of the board that was (proc(5)).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Sequence

from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable
from mobiletl.device.starting import started
from mobiletl.device.studio.project import Child

PROC = Path("/proc")
# Where the fields begin that follow the name in /proc/PID/stat: 3 is the state, 22 when it began.
_STATE, _BEGAN = 0, 19
NICENESS = 5


def boot() -> str:
    """Return which start of the board this is; empty where the system does not tell."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def began(pid: int) -> int | None:
    """Return when the process `pid` began, in ticks; None if there is none that still runs."""
    try:
        content = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name may hold spaces and parentheses; nothing after it does.
    rest = content.rpartition(")")[2].split()
    if len(rest) <= _BEGAN or rest[_STATE] in ("Z", "X"):
        return None
    return int(rest[_BEGAN])


def runs(child: Child) -> bool:
    """Return whether this very process still runs."""
    return child.boot == boot() and began(child.pid) == child.began


def ask_to_stop(child: Child) -> None:
    """Ask the process to save and stop, as Ctrl-C does.

    Not with SIGINT itself: a server in the background of a script ignores it, and its children do.
    """
    if runs(child):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, signal.SIGTERM)


def peak_bytes(child: Child) -> int | None:
    """Return the most memory that the process has held so far."""
    try:
        status = (PROC / str(child.pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that a signal to this one does not reach; it writes to `log`.

    Raises NoSpace.
    """
    try:
        with log.open("wb") as out:
            process = started(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise NoSpace(
            f"a process could not be started with its log in {printable(str(log))} "
            f"({error.strerror or error})"
        ) from error
    # The page is to stay quick; on one core both would get half.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process
