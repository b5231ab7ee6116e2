"""What one runtime adds to a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Moment = tuple[int, int, int, int]


@dataclass(frozen=True)
class NamedFile:
    """A file of the runtime's folder."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Artifact:
    """The files of one runtime by role (`features`, `train_step`, ...), as the manifest says it.

    `batch` and `classes` are the N and K it is fixed to, None where it takes any. `memory` is what
    the runtime itself states by function: bytes alive at moments of a run, each as (fixed, per N,
    per K, per N and K); empty where the memory plan of the stock graphs says it all.
    """

    files: Mapping[str, NamedFile]
    batch: int | None = None
    classes: int | None = None
    memory: Mapping[str, Sequence[Moment]] = field(default_factory=dict)

    def paths(self, folder: str) -> dict[str, str]:
        """Role to path in the bundle."""
        return {role: f"{folder}/{file.name}" for role, file in self.files.items()}

    def describe(self, folder: str) -> dict[str, Any]:
        """The manifest's entry."""
        return {
            "files": self.paths(folder),
            "batch": self.batch,
            "classes": self.classes,
            "memory": {name: [list(m) for m in moments] for name, moments in self.memory.items()},
        }
