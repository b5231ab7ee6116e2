"""The first time that a bundle is opened here, a process of its own opens it before this one does.

Old releases of onnxruntime end the whole process over some graphs that are not as they should be
(a division by zero, an exception in a thread), which no `except` catches. What the scan of a graph
cannot know, this finds out: the process may die without harm. A bundle that was opened once is
remembered, together with the runtime's release, and so is one that this user exported here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.records import OPENED, OWN, remember, remembered
from mobiletl.device.errors import BadBundle, InternalError
from mobiletl.device.installed import installed_release
from mobiletl.device.printable import printable
from mobiletl.device.sessions.table import Runtime

SCRIPT = Path(__file__).resolve().parents[1] / "_rehearse.py"
MOST_SECONDS = 300.0
# Exit codes of the process: all is well, an error that this process is to meet itself, and a graph
# that fails when it is run.
OPENED_WELL, OTHERWISE, FAILED = 0, 1, 3
# What has threads of its own, which a forked process would lack.
THREADED = ("onnxruntime", "torch")


def rehearse(bundle: Bundle, row: Runtime) -> None:
    """Open `bundle` with `row` in another process, unless it is known; raises BadBundle.

    An error that such a process reports, and survives, is left to this one to meet and to tell.
    """
    release = installed_release(row.distribution) or "unknown"
    name = f"{bundle.manifest.id}-{row.name}-{release}"
    if row.runs_code or bundle.trusted or remembered(OPENED, name):
        return
    if remembered(OWN, bundle.manifest.id):
        return
    code = _forked(bundle, row) if _alone() else _started(bundle, row)
    if code == OPENED_WELL:
        remember(OPENED, name)
    elif code == FAILED:
        raise BadBundle(
            f"the functions of {printable(str(bundle.path))} fail in {row.name} {release} "
            "when they are called; export the bundle again, or free memory if there is little"
        )
    elif code < 0:
        raise BadBundle(
            f"opening {printable(str(bundle.path))} ends {row.name} {release} "
            f"({_why(-code)}), as a process of its own has tried; take the bundle from whoever "
            "exported it again, or update the runtime"
        )


def outcome(bundle: Bundle, row: Runtime) -> int:
    """Open and run in a process that is made for it, and return its exit code."""
    quiet()
    try:
        open_and_run(bundle, row)
    except InternalError:
        return FAILED
    return OPENED_WELL


def open_and_run(bundle: Bundle, row: Runtime) -> None:
    """Call each of the three functions once, in whatever process this is."""
    import importlib

    import numpy as np

    manifest = bundle.manifest
    classes = manifest.runtimes[row.name].classes or 2
    batch = manifest.runtimes[row.name].batch or 1
    side = manifest.input.resolution
    opener = importlib.import_module(row.module).open_session
    with opener(bundle, classes, bundle.initial_state(classes, 0), 1) as session:
        session.features(np.zeros((1, 3, side, side), np.float32))
        h = np.zeros((batch, *manifest.feature.shape), np.float32)
        session.train_step(h, np.zeros(batch, np.int64), 0.0)
        session.embed(h[:1])


def _alone() -> bool:
    """Whether this process may be forked: commands are, before they have loaded a runtime.

    It then shares its memory with this one, so that both stay within the plan.
    """
    loaded = any(name in sys.modules for name in THREADED)
    return hasattr(os, "fork") and threading.active_count() == 1 and not loaded


def _forked(bundle: Bundle, row: Runtime) -> int:
    """Return the exit code of a forked process, negative for a signal."""
    child = os.fork()
    if child:
        return _awaited(lambda: _polled(child), lambda: os.kill(child, signal.SIGKILL))
    try:
        os._exit(outcome(bundle, row))
    finally:
        os._exit(OTHERWISE)


def _polled(child: int) -> int | None:
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        return None
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _started(bundle: Bundle, row: Runtime) -> int:
    """Return the exit code of a process that is started anew."""
    level = str(bundle.manifest.method.blocks)
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(bundle.path.resolve()), level, row.name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        return _awaited(process.poll, process.kill)


def _awaited(poll: Callable[[], int | None], kill: Callable[[], None]) -> int:
    """Wait for a process, and end it after `MOST_SECONDS`, or where this one is interrupted."""
    end = time.monotonic() + MOST_SECONDS
    pause = 0.001
    code = None
    try:
        while code is None and time.monotonic() < end:
            time.sleep(pause)
            pause = min(1.5 * pause, 0.05)
            code = poll()
    finally:
        if code is None:
            with contextlib.suppress(OSError):
                kill()
            while poll() is None:
                time.sleep(0.001)
    return -signal.SIGALRM if code is None else code


def quiet() -> None:
    """Let nothing of a process that dies reach the terminal or the disk."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w")
    faulthandler.disable()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _why(number: int) -> str:
    if number == signal.SIGALRM:
        return f"it is not done after {MOST_SECONDS:.0f} s"
    if number == signal.SIGKILL:
        return "it was killed, most likely because memory ran out"
    return signal.Signals(number).name
