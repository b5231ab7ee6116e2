"""A disk or a network folder that is away for a while says nothing about the pictures on it.

What cannot be read just now is read again, after waits that grow, for `PATIENCE_S` in all. Then the
work ends; a picture is never counted as bad for it.
"""

from __future__ import annotations

import time
from typing import Callable, Iterator, TypeVar

from mobiletl.device.bundle.decode import PictureAway
from mobiletl.device.errors import PicturesAway
from mobiletl.device.printable import printable

PATIENCE_S = 60.0
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0

Found = TypeVar("Found")


def patiently(
    read: Callable[[], Found],
    wait: Callable[[float], None] = time.sleep,
    patience_s: float | None = None,
) -> Found:
    """Return what `read` returns, which is called again while it raises PictureAway.

    Raises PicturesAway when it still does after the waits, `PATIENCE_S` or `patience_s` in all.
    """
    left = PATIENCE_S if patience_s is None else patience_s
    for pause in _waits(left):
        try:
            return read()
        except PictureAway:
            wait(pause)
    try:
        return read()
    except PictureAway as error:
        raise PicturesAway(
            f"{printable(error.name)} cannot be read ({printable(error.reason)}), tried for "
            f"{left:g} s; see that its disk or network folder is there, and run the same command "
            "again, a training run with --resume"
        ) from error


def _waits(in_all: float) -> Iterator[float]:
    pause = FIRST_WAIT_S
    while in_all > 0:
        yield min(pause, in_all)
        in_all -= pause
        pause = min(2 * pause, LONGEST_WAIT_S)
