"""How a training process has ended, by what it left: a signal, an error of its own, a request.

A process that ended while another server looked leaves no exit code here, but the last line of its
log, which an error of ours begins with the name of the command.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from mobiletl.device import errors
from mobiletl.device.printable import printable

TAIL_BYTES = 4000
LONGEST_LINE = 300
_OURS = "mobiletl: "
# A process that is killed for the board's memory, or by hand, says nothing itself.
_SIGNALS = {
    signal.SIGKILL: "as the system does where memory is short",
    signal.SIGSEGV: "a fault in a library",
    signal.SIGABRT: "a fault in a library",
    signal.SIGBUS: "a fault of the disk or of memory",
    signal.SIGILL: "a library is for another processor",
}


@dataclass(frozen=True)
class Ending:
    """`words` say why, without a capital letter or a full stop at the end."""

    failed: bool
    """Whether it ended by an error of its own, which it would meet again."""
    asked: bool
    """Whether it ended because it was asked to."""
    words: str


def ending_of(code: int | None, asked: bool, log: Path) -> Ending:
    """Return how a process ended that has told no outcome.

    `code` is as subprocess has it, None where it is not known.
    """
    said = last_line(log)
    if asked or code == errors.Interrupted.exit_code:
        return Ending(False, True, "")
    if code is not None and code < 0:
        return Ending(False, False, f"the training was killed ({_signal_words(-code)})")
    if code or (code is None and said.startswith(_OURS)):
        said = said[len(_OURS) :] if said.startswith(_OURS) else said
        meaning = meaning_of(code)
        words = f"{said} ({meaning})" if said and meaning else said or meaning
        return Ending(True, False, words or f"the training ended with exit code {code}")
    return Ending(False, False, "the training was killed")


def meaning_of(code: int | None) -> str:
    """Return what an exit code of ours means, empty for any other."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = [kind for kind in kinds if getattr(kind, "exit_code", None) == code]
    found = [kind for kind in found if kind is not errors.MobileTLError]
    lines = (found[0].__doc__ or "").splitlines() if found else []
    return f"exit code {code}: {lines[0].rstrip('.')}" if lines else ""


def last_line(log: Path) -> str:
    """Return the last line that a process wrote, which says why it ended."""
    try:
        lines = log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return printable(said[-1][:LONGEST_LINE]) if said else ""


def _signal_words(number: int) -> str:
    try:
        found = signal.Signals(number)
    except ValueError:
        return f"signal {number}"
    why = _SIGNALS.get(found)
    return f"{found.name}, {why}" if why else found.name
