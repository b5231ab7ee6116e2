"""Runs a person's command whenever the answer changes.

Labels are names of folders, and folders come from strangers. So there is no shell, and a label is
never part of the command: it is in the environment, where nothing is read into it.

    MOBILETL_LABEL        the class, made printable; of an unknown picture the class most like it
    MOBILETL_PROBABILITY  its share, 0 to 1
    MOBILETL_UNKNOWN      1 while nothing known is seen, else 0
    MOBILETL_TIME         when the frame was taken, in seconds since 1970
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from typing import Callable, Sequence

from mobiletl.device.errors import UsageError
from mobiletl.device.prediction.live import Answer, Hearer
from mobiletl.device.printable import one_line, printable
from mobiletl.device.starting import started

TIMEOUT_S = 10.0
STDERR = 2


def words_of(command: str) -> list[str]:
    """Split a command as a shell would, without running one; raises UsageError.

    The program has to be there: a camera that is watched for hours should not find that out late.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"--on-change {printable(command)} cannot be split into words ({error}); quote it as "
            "in a shell"
        ) from error
    if not words:
        raise UsageError("--on-change is empty; give a program and its arguments")
    if shutil.which(words[0]) is None:
        raise UsageError(
            f"--on-change: there is no program {printable(words[0])} that this user may run; give "
            "its whole path (pipes and variables need a script, there is no shell)"
        )
    return words


class OnChange(Hearer):
    """One command at a time, in a thread of its own; of changes meanwhile the last one counts."""

    def __init__(
        self,
        words: Sequence[str],
        tell: Callable[[str], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`tell` hears, once each, that the command fails and that it hangs."""
        self._words, self._tell, self._timeout_s = list(words), tell, timeout_s
        self._told: set[str] = set()
        self._waiting: dict[bytes, bytes] | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self.runs = 0
        # A daemon: a second Ctrl-C ends the process, whatever the command does.
        self._thread = threading.Thread(target=self._work, name="on-change", daemon=True)
        self._thread.start()

    def hear(self, answer: Answer) -> None:
        """Have the command run if the answer has changed; returns at once."""
        if answer.changed:
            with self._changed:
                self._waiting = environment(answer)
                self._changed.notify()

    def close(self) -> None:
        """Let the command that runs and the one that waits end, each within its time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._waiting = None
            self._kill()
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._closing:
                    self._changed.wait()
                variables, self._waiting = self._waiting, None
            if variables is None:
                return
            self._run(variables)

    def _run(self, variables: dict[bytes, bytes]) -> None:
        self.runs += 1
        try:
            # A session of its own: what it starts is killed with it, and Ctrl-C does not reach it.
            self._process = started(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                env={**os.environb, **variables},
                start_new_session=True,
            )
            code = self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self._kill()
            self._say_once("hangs", f"was killed after {self._timeout_s:g} s")
        except (OSError, ValueError) as error:
            self._say_once("fails", f"cannot be run ({printable(one_line(error))})")
        else:
            if code:
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                self._say_once("fails", f"failed with {ended}")

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _say_once(self, kind: str, what: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            program = printable(self._words[0])
            self._tell(f"--on-change: {program} {what}; further times are not reported")


def environment(answer: Answer) -> dict[bytes, bytes]:
    """Return the variables as bytes, which no locale stands in the way of."""
    values = {
        "MOBILETL_LABEL": printable(answer.label),
        "MOBILETL_PROBABILITY": f"{answer.probability:.4f}",
        "MOBILETL_UNKNOWN": str(int(answer.unknown)),
        "MOBILETL_TIME": f"{answer.time_s:.3f}",
    }
    return {name.encode(): value.encode("utf-8") for name, value in values.items()}
