"""A run that another one follows: its trained state, its classes, and its memory of pictures."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.features.replay import memory_path
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import KEPT, RunFolder
from mobiletl.device.run.options import Former
from mobiletl.device.run.start import Start, start_of


@dataclass(frozen=True)
class FormerRun:
    """The run to go on from; `start` has its classes under their new names, none left out."""

    run: Path
    start: Start
    renamed: Mapping[str, str | None]
    memory: Path | None
    """The file of what it kept of its pictures; None where it kept nothing."""
    taught: bool
    """Whether its classifier was solved for, and nothing trained."""
    settled: bool = False
    """Whether its classifier was solved for after training (settling.py)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that go on, under their new names."""
        return self.start.class_names


def open_former(former: Former, bundle: Bundle) -> FormerRun:
    """Read the state that a run ended with; raises BadState, UsageError."""
    shown = printable(str(former.run))
    folder = RunFolder(former.run)
    if not former.run.is_dir() or not folder.holds_run():
        raise BadState(f"{shown} holds no run to go on from; name the folder of one")
    tensors, info = load_state(folder.best, bundle.manifest)
    start = start_of(tensors, info, bundle, str(folder.best))
    for name in former.renamed:
        if name not in start.class_names:
            near = difflib.get_close_matches(name, start.class_names, 1)
            meant = f" (did you mean '{printable(near[0])}'?)" if near else ""
            raise UsageError(
                f"{shown} has no class '{printable(name)}'{meant}; it has "
                f"{', '.join(printable(known) for known in start.class_names)}"
            )
    memory = memory_path(former.run, bundle.manifest)
    return FormerRun(
        former.run,
        _renamed(start, former.renamed, bundle),
        former.renamed,
        memory if memory.is_file() else None,
        info.step == 0,
        KEPT in info.settings,
    )


def _renamed(start: Start, renamed: Mapping[str, str | None], bundle: Bundle) -> Start:
    """Return `start` without the classes that are left out, the others under their new names."""
    names = [renamed.get(name, name) for name in start.class_names]
    rows = [row for row, name in enumerate(names) if name is not None]
    left = tuple(name for name in names if name is not None)
    twice = sorted({name for name in left if left.count(name) > 1})
    if twice:
        raise UsageError(f"two classes would be called '{printable(twice[0])}'; rename one only")
    return start.with_rows(bundle.manifest, rows, left)
