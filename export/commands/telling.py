"""What the host's rooms log is told to whoever runs a command, on standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from mobiletl.device.printable import printable


@contextlib.contextmanager
def telling(room: str) -> Iterator[None]:
    """Print lines of `room`, a package, such as where weights were found in a checkpoint."""
    logger = logging.getLogger(room)
    handler = _Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print one line; a closed stream ends the telling, not the command."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{printable(record.getMessage(), sys.stderr.encoding)}\n")
