"""A contender in a process of its own: it runs a part when a line names it.

The parent times the calls, in turns with the other contenders', so that whatever else the machine
does hits all of them. Needs the standard library alone: contenders live in other environments.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

WHOLE, STEP, MEMORY = "features and step", "step", "memory"
BATCH, CLASSES, SIDE, THREADS = 8, 10, 224, 2
REPOSITORY = Path(__file__).resolve().parents[2]


def serve(parts: Mapping[str, Callable[[], object]]) -> None:
    """Run the parts that lines of standard input name until it ends; `memory` is always there."""
    for line in sys.stdin:
        name = line.strip()
        answer = _most_bytes() if name == MEMORY else parts[name]()
        print(json.dumps(answer if isinstance(answer, (int, float)) else None), flush=True)


def _most_bytes() -> int:
    """What this process took at most, as the kernel counts it."""
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Worker:
    """The parent's side; a context manager."""

    def __init__(self, python: Path, module: str, *arguments: str) -> None:
        """Start `python -m module`; it has what it needs when its first answer comes."""
        self._process = subprocess.Popen(
            [str(python), "-m", module, *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._name = module

    def call(self, part: str) -> float | None:
        """Run `part` there; returns its answer when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{part}\n")
            self._process.stdin.flush()
        while line := self._process.stdout.readline():
            # Libraries greet on standard output.
            if line.startswith(("null", *"-0123456789")):
                answer: float | None = json.loads(line)
                return answer
        raise RuntimeError(f"{self._name} ended with {self._process.wait()}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # It ends with its input; what a dead one did not read is of no interest.
        with contextlib.suppress(BrokenPipeError), self._process:
            pass
