"""One writer at a time: a lock file that says who holds it, and that no dead process holds.

`flock` belongs to the open file: the system gives it back when its process ends, however that was,
so a power cut or a SIGKILL leaves nothing to clean up. The file is removed at the end, by its
holder. On NFS the server keeps the lock for all clients; where a file system has no locks at all
(some FUSE and network folders), a warning says so and the work goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Iterator

from mobiletl.device.bundle.wear import write_all
from mobiletl.device.errors import InUse
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write

MOST_BYTES = 4096
COMMAND_LETTERS = 200
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Path, what: str, instead: str) -> Iterator[None]:
    """Hold the lock file `path`; raises InUse, with who holds it, and NoSpace.

    `what` begins the sentence of that error, `instead` is what to try besides waiting.
    """
    try:
        descriptor = _take(path, what, instead)
    except OSError as error:
        raise cannot_write(f"the lock of {what}", path, error, instead) from error
    try:
        yield
    finally:
        # In this order: whoever waits for the lock then finds that the file has lost its name.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _take(path: Path, what: str, instead: str) -> int:
    while True:
        descriptor = os.open(str(path), _FLAGS, 0o666)
        try:
            if not _lock(descriptor, path):
                raise InUse(f"{what} is in use by {_holder(descriptor)}; wait for it, or {instead}")
            if _has_name(descriptor, path):
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # The former holder has removed the file between opening and locking.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file; False where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: this file system has no locks; start one process only", path)
    return True


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write who holds the lock; a full disk leaves it unsigned, and held."""
    signature = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv)[:COMMAND_LETTERS],
        "since": time.time(),
    }
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        write_all(descriptor, json.dumps(signature).encode("utf-8"))


def _holder(descriptor: int) -> str:
    """Say who has signed an open lock file; the text is from outside."""
    try:
        document: Any = json.loads(os.pread(descriptor, MOST_BYTES, 0).decode("utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(document["since"])))
        command = printable(str(document["command"]))[:COMMAND_LETTERS]
        host = printable(str(document["host"]))[:COMMAND_LETTERS]
        return f"process {int(document['pid'])} on {host} since {since} ({command})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process, which has not said who it is"
