"""Two processes at once on one run folder, or on one cache: one wins, the other says who."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mobiletl.device.errors import InUse, UsageError
from runtime_tests.attacks.arena import Arena, cases
from runtime_tests.attacks.harness import Ended, Fault, Worker, outcome, remains, worker
from runtime_tests.attacks.runs import fresh

WHOLE = (pytest.mark.slow, pytest.mark.long)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(tmp_path_factory.mktemp("other")) as started:
        yield started


def command(arena: Arena, run: Path, *more: str) -> list[str]:
    argv = arena.runs["plain"].argv("--out", run.parent)
    return [*argv[:-2], "--epochs", "12", *more, "--out", str(run)]


def at_once(arena: Arena, other: Worker, argvs: list[list[str]]) -> list[Ended]:
    nothing = Fault(arena.folder / "nothing")
    with ThreadPoolExecutor(2) as pool:
        pairs = zip((arena.worker, other), argvs, strict=True)
        started = [pool.submit(each.run, argv, nothing) for each, argv in pairs]
        return [one.result() for one in started]


def check_pair(ended: list[Ended]) -> bool:
    """Whether the two met; a pair that met has a winner, whom the loser names."""
    won, lost = sorted(ended, key=lambda one: one.code)
    assert won.code == 0, won.err
    assert "Traceback" not in lost.err
    if lost.code != InUse.exit_code:
        # The other had finished by then, or left a run between two looks.
        assert lost.code in (0, UsageError.exit_code), lost.err
        return False
    (line,) = [line for line in lost.err.splitlines() if line.startswith("mobiletl: ")]
    named = re.search(r"is in use by (?:process (\d+) on|another process, which)", line)
    assert named is not None, line
    assert named.group(1) in (str(won.pid), None)
    return True


@pytest.mark.parametrize("pairs", [3, pytest.param(50, marks=WHOLE)])
def test_pairs_on_one_run(arena: Arena, other: Worker, pairs: int) -> None:
    reference = fresh(arena.folder / "alone") / "run"
    alone = arena.worker.run(command(arena, reference), Fault(reference))
    assert alone.code == 0
    met = 0
    for _ in range(cases(pairs)):
        run = fresh(arena.folder / "pair") / "run"
        met += check_pair(at_once(arena, other, [command(arena, run)] * 2))
        assert outcome(run) == outcome(reference)
        assert remains(run) == []
    print(f"{met} of {cases(pairs)} pairs met in one run")
    assert met > 0


@pytest.mark.parametrize("pairs", [3, pytest.param(50, marks=WHOLE)])
def test_pairs_on_one_cache(arena: Arena, other: Worker, pairs: int) -> None:
    met = 0
    for _ in range(cases(pairs)):
        folder = fresh(arena.folder / "pair")
        runs, cache = [folder / "a", folder / "b"], ("--cache", str(folder / "cache"))
        ended = at_once(arena, other, [command(arena, run, *cache) for run in runs])
        met += check_pair(ended)
        for run in runs:
            again = arena.worker.run(command(arena, run, *cache), Fault(run))
            assert again.code == 0, again.err
        assert outcome(runs[0]) == outcome(runs[1])
    print(f"{met} of {cases(pairs)} pairs met in one cache")
    assert met > 0
