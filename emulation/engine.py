"""Where an emulated board runs: the two engines as a table, and the choice between them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from emulation import chroot, docker
from emulation.errors import CannotEmulate
from emulation.machine import Machine

SHARED = "/shared"
"""Where the board sees the folder it shares with the host."""


class Installed(Protocol):
    """A board on which the package is installed."""

    def run(
        self, shared: Path, command: Sequence[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` with `shared` as /shared; `python` and `mobiletl` are the installed ones.

        The code is that of the command; a signal ends it with 128 + its number.
        """
        ...


class Engine(Protocol):
    """One way to emulate."""

    @property
    def name(self) -> str:
        """As it is chosen by."""
        ...

    def objection(self, machine: Machine) -> str:
        """Why this machine can't do it, in half a sentence; empty where it can."""
        ...

    def install(self, machine: Machine, wheel: Path) -> Installed:
        """Build the board's system and install `wheel`, or take both from the cache."""
        ...


ENGINES: tuple[Engine, ...] = (docker.Docker(), chroot.Chroot())


def choose(machine: Machine, name: str = "") -> Engine:
    """Return the engine called `name`, or the first that can where no name is given.

    Raises CannotEmulate with a reason for each.
    """
    known = [engine.name for engine in ENGINES]
    if name and name not in known:
        raise CannotEmulate(f"no engine {name!r}; known are {', '.join(known)}")
    objections = []
    for engine in ENGINES:
        if name not in ("", engine.name):
            continue
        objection = engine.objection(machine)
        if not objection:
            return engine
        objections.append(f"{engine.name}: {objection}")
    raise CannotEmulate("; ".join(objections))
