"""Keys of a terminal as they are pressed, and a key that is held down."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, TextIO

from mobiletl.device.bundle.closing import Closing

# A terminal tells no release of a key. One that is held repeats, after a quarter to two thirds of a
# second and then many times a second; so long a silence means that it was let go.
RELEASED_S = 0.6
# Their place in what `termios.tcgetattr` returns.
CONTROL_CHARACTERS = 6


class Keys(Closing):
    """Reads single keys; the terminal is as before once it is closed.

    Where `stream` is no terminal, `there` is false and no key is ever pressed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Switch the terminal to single keys without echo; Ctrl-C and Ctrl-Z stay signals."""
        source = sys.stdin if stream is None else stream
        self._former: list[Any] | None = None
        self.there = False
        # A service may have closed it.
        if source is None or source.closed or not source.isatty():
            return
        try:
            import termios
            import tty
        except ImportError:  # no POSIX system
            return
        self._file = source.fileno()
        self._former = termios.tcgetattr(self._file)
        self.there = True
        tty.setcbreak(self._file)
        # Ctrl-C empties the queue of keys, maybe between "there is one" and the call that reads it,
        # which must not wait for another then.
        settings = termios.tcgetattr(self._file)
        settings[CONTROL_CHARACTERS][termios.VMIN] = 0
        settings[CONTROL_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(self._file, termios.TCSANOW, settings)

    def pressed(self) -> str:
        """Return the keys since the last call, in their order; never waits."""
        keys, empty = b"", 0
        while self.there and select.select([self._file], [], [], 0)[0]:
            some = os.read(self._file, 1024)
            # Once may be an emptied queue; a terminal that was closed stays ready, and empty.
            empty = 0 if some else empty + 1
            self.there = empty < 2
            keys += some
        return keys.decode("utf-8", "replace")

    def close(self) -> None:
        """Give the terminal back as it was; it may be gone."""
        if self._former is None:
            return
        import termios

        former, self._former = self._former, None
        try:
            termios.tcsetattr(self._file, termios.TCSADRAIN, former)
        except (OSError, termios.error):
            self.there = False


class Hold:
    """Whether a key is held down, by its repetitions; times are in seconds of one clock."""

    def __init__(self) -> None:
        """It is not."""
        self._last: float | None = None

    def press(self, now: float) -> None:
        """The key has come, for the first time or again."""
        self._last = now

    def release(self) -> None:
        """Take it as let go."""
        self._last = None

    def held(self, now: float) -> bool:
        """Whether it came less than `RELEASED_S` ago."""
        return self._last is not None and now - self._last <= RELEASED_S
