"""Where runs are attacked, and how large an attack is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime_tests.attacks.harness import Fault, Worker, outcome
from runtime_tests.attacks.runs import Attacked, fresh


@dataclass(frozen=True)
class Arena:
    """A folder, a worker, and runs by their names."""

    folder: Path
    worker: Worker
    runs: dict[str, Attacked]

    def undisturbed(self, name: str, reads: bool = False) -> tuple[dict[str, object], list[str]]:
        """Return the outcome of the run called `name`, and its calls that change files."""
        place = fresh(self.folder / f"undisturbed {name} {reads}")
        run = self.runs[name]
        ended = self.worker.run(run.argv("--out", place), Fault(place, reads=reads))
        assert ended.code == run.code, ended.err
        return outcome(place / "run"), ended.calls


def cases(usual: int) -> int:
    """Return how many cases to draw; ATTACK_CASES says otherwise."""
    return int(os.environ.get("ATTACK_CASES", usual))


def said(problem: str) -> str:
    """Show a problem at once: a whole attack takes long."""
    if problem:
        print(problem, flush=True)
    return problem
