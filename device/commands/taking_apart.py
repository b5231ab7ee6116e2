"""Pictures are taken by a child process, so that no camera's library stays in this one.

The child has the same terminal: it shows the counts and reads the keys, and Ctrl-C reaches it by
itself. Two pipes lead to it. One line of JSON is the order, and that pipe stays open: its end means
that nobody wants pictures any more, because this process was told to stop, or is gone. What the
child answers, before it ends, is one object of JSON:

    {"taken": {...}}                    a Taken
    {"error": "NoCamera", "text": ...}  an error of errors.py, to be raised here
    {"error": null}                     stopped at once, by a second Ctrl-C
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterator

from mobiletl.device import errors
from mobiletl.device.cameras.addresses import shown_source
from mobiletl.device.commands.table import tell_warnings
from mobiletl.device.commands.taking import Order, Taken, order_of, take
from mobiletl.device.errors import InternalError, MobileTLError, NoCamera
from mobiletl.device.refusals import of_system
from mobiletl.device.run.stop import NOTICE, STDERR, StopFlag

SCRIPT = Path(__file__).resolve().parents[1] / "_take.py"
# How long a wait is at most; the end of the child, and signals, end it before.
WAIT_S = 0.5
# The codes of signals that another process sends (sigaction(2)) are up to this one.
SENT = 0
# Signals that ask to stop.
ASKING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def take_apart(order: Order) -> Taken:
    """Do what `take` does, and raise what it raises, in a process that is gone afterwards.

    Where a system cannot wait for signals (macOS, Windows) this process takes them.
    """
    if not hasattr(signal, "sigtimedwait"):
        return take(order)
    with _held_back() as signals:
        child = _Child(order)
        try:
            stopped = child.wait(signals)
        finally:
            child.close()
    return _taken(child, order, stopped)


class _Child:
    """The process and the two pipes to it."""

    def __init__(self, order: Order) -> None:
        reads, self._order = os.pipe()
        self._result, writes = os.pipe()
        os.set_blocking(self._result, False)
        words = [sys.executable, str(SCRIPT), str(reads), str(writes)]
        try:
            self._process = subprocess.Popen(words, pass_fds=(reads, writes))
        except OSError:
            os.close(self._order)
            os.close(self._result)
            raise
        finally:
            os.close(reads)
            os.close(writes)
        self.answer = b""
        # A child that has died already says so by its exit code.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._order, json.dumps(order.document()).encode("ascii") + b"\n")

    @property
    def code(self) -> int:
        """Its exit code, negative for the signal that it died of."""
        code = self._process.returncode
        assert code is not None
        return int(code)

    def wait(self, signals: set[signal.Signals]) -> bool:
        """Wait for its end; returns whether one of `signals` has come meanwhile."""
        came = False
        while True:
            ended = self._process.poll() is not None
            self._read()
            heard = signal.sigtimedwait(signals, 0 if ended else WAIT_S)
            if heard is None:
                if ended:
                    return came
            elif heard.si_signo != signal.SIGCHLD:
                came = True
                # What the terminal or the system sends, the child has got as well.
                if heard.si_code <= SENT and not ended:
                    self.stop()

    def stop(self) -> None:
        """Ask it to stop; the second time, at once."""
        if self._order < 0:
            self._process.terminate()
        else:
            os.close(self._order)
            self._order = -1

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for end in (self._order, self._result):
            if end >= 0:
                os.close(end)

    def _read(self) -> None:
        """Take in what it has answered so far, so that it never waits to be read."""
        with contextlib.suppress(BlockingIOError):
            while True:
                some = os.read(self._result, 65536)
                if not some:
                    return
                self.answer += some


@contextlib.contextmanager
def _held_back() -> Iterator[set[signal.Signals]]:
    """Let the signals that ask to stop wait until they are asked for, and that a child has ended.

    One that is ignored stays ignored, as StopFlag has it.
    """
    wanted = {number for number in ASKING if signal.getsignal(number) is not signal.SIG_IGN}
    wanted.add(signal.SIGCHLD)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        yield wanted
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _taken(child: _Child, order: Order, stopped: bool) -> Taken:
    """Return or raise what the child answered."""
    if not child.answer:
        raise _dead(child.code, shown_source(order.camera.source or ""))
    answer = json.loads(child.answer)
    if "taken" not in answer and answer["error"] is not None:
        raise getattr(errors, answer["error"])(answer["text"])
    # A stop that came when the last picture was there is meant for what follows.
    if "taken" not in answer or stopped:
        raise KeyboardInterrupt
    return Taken(**answer["taken"])


def _dead(code: int, camera: str) -> MobileTLError:
    if code >= 0:
        return InternalError(
            f"taking pictures ended with exit code {code} and no answer; if a traceback stands "
            "above, please report it"
        )
    return NoCamera(
        f"the process that read {camera} died ({signal.Signals(-code).name}), most likely in the "
        "camera's library; what was kept stays: run the same command again, or try another "
        "--camera-size"
    )


def serve(order: int, result: int) -> int:
    """Be the child: take what the descriptor `order` says, and answer on `result`."""
    with StopFlag() as stop:
        # They were held back since before this process began.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        tell_warnings()
        answer = json.dumps(_answer(order, stop)).encode("ascii")
        while answer:
            answer = answer[os.write(result, answer) :]
        for number in ASKING:
            signal.signal(number, signal.SIG_IGN)
    return 0


def _answer(order: int, stop: StopFlag) -> dict[str, Any]:
    try:
        wanted = order_of(json.loads(_line(order)))
        threading.Thread(target=_watch, args=(order, stop), daemon=True).start()
        return {"taken": asdict(take(wanted, stop))}
    except KeyboardInterrupt:
        return {"error": None}
    except (MobileTLError, OSError) as error:
        known = of_system(error) if isinstance(error, OSError) else error
        kinds = [kind.__name__ for kind in type(known).__mro__]
        return {"error": next(name for name in kinds if hasattr(errors, name)), "text": str(known)}


def _line(order: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        some = os.read(order, 1)
        if not some:  # whoever wanted pictures is gone already
            raise KeyboardInterrupt
        line += some
    return line


def _watch(order: int, stop: StopFlag) -> None:
    """Ask to stop when the order ends."""
    while os.read(order, 1):
        pass
    if not stop:
        stop.request()
        with contextlib.suppress(OSError):
            os.write(STDERR, NOTICE)
