"""The system says no to one call after another: one line with the right advice, the right exit
code, and a last state that the next command goes on from.
"""

from __future__ import annotations

import errno
import random

import pytest

from mobiletl.device.errors import BadState, NoSpace, UsageError
from runtime_tests.attacks.arena import Arena, cases, said
from runtime_tests.attacks.harness import FAIL, FAIL_ON, Ended, Fault, outcome
from runtime_tests.attacks.runs import fresh

WHOLE = (pytest.mark.slow, pytest.mark.long)

# What the line must say, and what it must not.
ADVICE = {
    errno.ENOSPC: ("free space", "read-only"),
    errno.EDQUOT: ("quota", "read-only"),
    errno.EROFS: ("read-only", "free space"),
    errno.EACCES: ("this user may not", "free space"),
    errno.EIO: ("dmesg", "free space"),
}


def problem(ended: Ended, number: int) -> str:
    """Say what is wrong with how a command ended that was refused a call; empty if nothing is."""
    said, unsaid = ADVICE[number]
    lines = [line for line in ended.err.splitlines() if line.startswith("mobiletl: ")]
    if "Traceback" in ended.err:
        return f"a traceback: {ended.err.splitlines()[-1]}"
    if ended.code == 0:
        return ""  # nothing depended on the call
    if ended.code not in (NoSpace.exit_code, UsageError.exit_code, BadState.exit_code):
        return f"exit {ended.code}: {lines}"
    if len(lines) != 1 or said not in lines[0] or unsaid in lines[0]:
        return f"advice: {lines}"
    return ""


def check(arena: Arena, name: str, fault: Fault, reference: dict[str, object]) -> str:
    """Refuse a call, or all from one on; return what went wrong, empty if nothing did."""
    run, folder = arena.runs[name], fresh(fault.below)
    ended = arena.worker.run(run.argv("--out", folder), fault)
    where = f"{errno.errorcode[fault.errno]} at {fault.at} {ended.calls[fault.at - 1 :][:1]}"
    found = problem(ended, fault.errno)
    if found:
        return f"{where}: {found}"
    again = run.again(arena.worker, "--out", folder)
    if again.code != run.code:
        return f"{where}: and then {again.err.splitlines()[-1:]}"
    return "" if outcome(folder / "run") == reference else f"{where}: another outcome"


@pytest.mark.parametrize("number", sorted(ADVICE))
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=WHOLE)])
def test_refused_once(arena: Arena, number: int, whole: bool, drawn: random.Random) -> None:
    reference, calls = arena.undisturbed("plain", reads=True)
    tried = list(range(1, len(calls) + 1))
    if not whole:
        tried = drawn.sample(tried, cases(4))
    folder = arena.folder / "refused"
    problems = [
        said(check(arena, "plain", Fault(folder, FAIL, at, number, reads=True), reference))
        for at in tried
    ]
    print(f"{errno.errorcode[number]}: {len(tried)} calls refused")
    assert [found for found in problems if found] == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_refused_from_then_on(arena: Arena, number: int) -> None:
    """A disk that is full, or has turned read-only, stays so until the command has ended."""
    reference, calls = arena.undisturbed("plain")
    folder = arena.folder / "refused"
    problems = [
        said(check(arena, "plain", Fault(folder, FAIL_ON, at, number), reference))
        for at in range(1, len(calls) + 1)
    ]
    assert [found for found in problems if found] == []
