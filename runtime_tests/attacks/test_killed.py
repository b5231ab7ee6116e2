"""A run that is killed after any of its system calls: the same command and --resume both lead on,
to the bytes of the run that nobody disturbed.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from mobiletl.device.errors import BadState
from runtime_tests.attacks.arena import Arena, cases, said
from runtime_tests.attacks.harness import KILL, KILLED, TEAR, Fault, outcome, remains
from runtime_tests.attacks.runs import copied, fresh

WHOLE = (pytest.mark.slow, pytest.mark.long)

RUNS = ("plain", "following", "going back", "sparing")
# Of the fast tier: calls around the first save of each kind, and every so many after that.
FIRST, EVERY = 3, 40


def check(arena: Arena, name: str, mode: int, at: int, reference: dict[str, object]) -> str:
    """Kill the run at a call; return what went wrong afterwards, empty if nothing did."""
    run, killed = arena.runs[name], fresh(arena.folder / "killed")
    first = arena.worker.run(run.argv("--out", killed), Fault(killed, mode, at))
    if first.code == run.code:
        return ""  # it had fewer calls this time: steps are told of by the clock
    assert first.code == KILLED, first.err
    for how in ("--out", "--resume"):
        folder = copied(killed, arena.folder / "again")
        if how == "--resume" and not (folder / "run").exists():
            continue
        ended = run_again(arena, name, how, folder)
        if ended:
            return f"{name}, {mode} at {at} {first.calls[-1]}, {how}: {ended}"
        if outcome(folder / "run") != reference:
            return f"{name}, {mode} at {at} {first.calls[-1]}, {how}: another outcome"
        if run.code == 0 and remains(folder / "run"):
            return f"{name}, {mode} at {at}, {how}: left {remains(folder / 'run')}"
    return ""


def run_again(arena: Arena, name: str, how: str, folder: Path) -> str:
    """Run again; of a run that does not know yet how it was begun, --resume names its command."""
    run = arena.runs[name]
    ended = run.again(arena.worker, how, folder)
    named = "give the command again" in ended.err or "start afresh" in ended.err
    if ended.code == BadState.exit_code and not (folder / "run" / "last.safetensors").exists():
        assert named
        ended = run.again(arena.worker, "--out", folder)
    last = ended.err.strip().splitlines()[-1:]
    return "" if ended.code == run.code else f"exit {ended.code}: {last}"


def places(calls: list[str], whole: bool) -> list[tuple[int, int]]:
    """Return (mode, number) of the calls to kill at; a write is also torn."""
    found = [(KILL, at) for at in range(1, len(calls) + 1)]
    found += [(TEAR, at) for at, call in enumerate(calls, 1) if call.startswith("write")]
    if whole:
        return found
    kinds: dict[str, int] = {}
    chosen = []
    for mode, at in found:
        call, path = calls[at - 1].split(" ", 1)
        kind = f"{mode} {call} {path.split('.')[1] if '.tmp' in path else path}"
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] == 1 and mode == KILL and "safetensors" in kind:
            chosen.append((mode, at))
    return chosen + found[1::EVERY]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=WHOLE)])
def test_killed_after_a_call(arena: Arena, name: str, whole: bool, drawn: random.Random) -> None:
    if name != "plain" and not whole:
        pytest.skip("left to the slow tier")
    reference, calls = arena.undisturbed(name)
    tried = places(calls, whole)
    if whole:
        tried = drawn.sample(tried, min(len(tried), cases(len(tried))))
    problems = [said(check(arena, name, mode, at, reference)) for mode, at in tried]
    print(f"{name}: {len(tried)} kills, {len(calls)} calls")
    assert [problem for problem in problems if problem] == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_killed_again_and_again(arena: Arena, name: str, drawn: random.Random) -> None:
    """A run that is killed at random until it gets through, by either command."""
    reference, calls = arena.undisturbed(name)
    run, kills = arena.runs[name], 0
    while kills < cases(60):
        folder = fresh(arena.folder / "chain")
        for _ in range(200):
            how = drawn.choice(["--out", "--resume"]) if (folder / "run").exists() else "--out"
            mode, at = drawn.choice([KILL, TEAR]), drawn.randint(1, len(calls) // 2)
            ended = arena.worker.run(run.argv(how, folder), Fault(folder, mode, at))
            if ended.code != KILLED:
                break
            kills += 1
        if ended.code == BadState.exit_code:
            assert run_again(arena, name, how, folder) == ""
        else:
            assert ended.code == run.code, (name, how, mode, at, ended.err)
        assert outcome(folder / "run") == reference
        shutil.rmtree(folder)
    print(f"{name}: {kills} kills at random")
