"""What a request may be answered with instead of what it asked for: a status and one line."""

from __future__ import annotations

from typing import Sequence

from mobiletl.device import errors
from mobiletl.device.printable import printable


class Refused(Exception):
    """A request that cannot be served; `text` is for the person who sent it."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Take an HTTP status of 400 or more and a line, which is made safe to show."""
        super().__init__(text)
        self.status = status
        self.text = printable(text)
        self.headers = tuple(headers)


# What was found on the board, in terms of HTTP; anything else of ours is a conflict.
STATUSES = (
    (errors.UsageError, 400),
    (errors.NoSpace, 507),
    (errors.MissingDependency, 501),
    (errors.InternalError, 500),
    (errors.MobileTLError, 409),
)


def refused(error: errors.MobileTLError) -> Refused:
    """Return an error of the device as the answer to a request."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    return Refused(status, str(error))
