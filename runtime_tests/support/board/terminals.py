"""A command in a terminal of its own, to be typed into as a person does."""

from __future__ import annotations

import os
import pty
import select
import sys
import termios
import time
from typing import Any

# As often as a keyboard repeats a key.
REPEAT_S = 0.033


class Typed:
    """`mobiletl` with `words`, its standard streams all the same pseudo-terminal."""

    def __init__(self, *words: str) -> None:
        script = "import sys; from mobiletl.device.commands.table import main; sys.exit(main())"
        command = [sys.executable, "-c", script, *words]
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            try:
                os.execv(command[0], command)
            finally:
                os._exit(99)
        self.text, self._past = "", 0
        self.before = self.settings()

    def settings(self) -> Any:
        """What the terminal is set to now."""
        return termios.tcgetattr(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, words: str, seconds: float = 60.0, hold: str = "") -> None:
        """Read until `words` are shown, after what was waited for before.

        `hold` is pressed again and again meanwhile.
        """
        until = time.monotonic() + seconds
        due = 0.0
        while words not in self.text[self._past :]:
            assert time.monotonic() < until, f"no {words!r} in ...{self.text[-500:]!r}"
            if hold and time.monotonic() >= due:
                self.type(hold)
                due = time.monotonic() + REPEAT_S
            self._read(REPEAT_S)
        self._past = self.text.index(words, self._past) + len(words)

    def end(self, seconds: float = 60.0) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(0.05)
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                while self._read(0.05):
                    pass
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        raise AssertionError(f"did not end: ...{self.text[-500:]!r}")

    def close(self) -> None:
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            some = os.read(self._master, 65536)
        except OSError:  # Linux says so once the other end is closed
            return False
        self.text += some.decode("utf-8", "replace")
        return bool(some)
