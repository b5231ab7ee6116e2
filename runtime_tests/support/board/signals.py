"""Signals as an interactive shell has them, whatever the test command was started by."""

from __future__ import annotations

import contextlib
import signal
from typing import Iterator


@contextlib.contextmanager
def signals_arrive() -> Iterator[None]:
    """Let Ctrl-C and a closed terminal arrive, in children that are started inside, too.

    A test command under `nohup`, or in the background of a script, starts with both ignored; what
    is ignored is inherited by children, and Python then installs no handler for Ctrl-C.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
