"""One worker for each file of attacks, and how large an attack is.

ATTACK_SEED draws other cases, ATTACK_CASES is how many there are of those that are drawn.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime_tests.attacks.harness import Fault, Worker, outcome, worker
from runtime_tests.attacks.runs import Attacked, fresh, prepare


@dataclass(frozen=True)
class Arena:
    """Where runs are attacked: `references` are their outcomes undisturbed, `calls` what they
    call that changes files.
    """

    folder: Path
    worker: Worker
    runs: dict[str, Attacked]

    def undisturbed(self, name: str, reads: bool = False) -> tuple[dict[str, object], list[str]]:
        """Return the outcome of the run called `name`, and its calls."""
        place = fresh(self.folder / f"undisturbed {name} {reads}")
        run = self.runs[name]
        ended = self.worker.run(run.argv("--out", place), Fault(place, reads=reads))
        assert ended.code == run.code, ended.err
        return outcome(place / "run"), ended.calls


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("attacks")
    with worker(folder) as started:
        yield Arena(folder, started, prepare(folder, started))


@pytest.fixture
def drawn() -> random.Random:
    return random.Random(int(os.environ.get("ATTACK_SEED", "0")))


def cases(usual: int) -> int:
    """Return how many cases to draw."""
    return int(os.environ.get("ATTACK_CASES", usual))
