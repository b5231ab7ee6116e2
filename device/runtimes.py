"""The runtimes a session can run on, as a table; the first one a bundle serves is the default."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Callable

from mobiletl.device.bundle import Bundle
from mobiletl.device.errors import BadBundle, BadState, UsageError
from mobiletl.device.session import Session, Tensors

Opener = Callable[[Bundle, int, Tensors, int], Session]


@dataclass(frozen=True)
class Runtime:
    """One row: a module with `open_session(bundle, classes, state, threads) -> Session`."""

    name: str
    module: str
    in_bundle: bool
    """Whether it runs files that the manifest's `runtimes` names; the fake needs none."""


RUNTIMES: tuple[Runtime, ...] = (
    Runtime("onnxruntime", "mobiletl.device.session_onnxruntime", in_bundle=True),
    Runtime("fake", "mobiletl.device.session_fake", in_bundle=False),
)


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int = 0, runtime: str | None = None
) -> Session:
    """Open `bundle` for `classes` classes with a copy of `state`.

    `threads` = 0 takes every core this process may use; `runtime` = None the first of the table
    that the bundle has files for. Raises UsageError for an unknown runtime, BadBundle if the
    bundle does not serve it, BadState if the tensors do not fit the manifest.
    """
    row = _choose(bundle, runtime)
    problems = bundle.manifest.tensor_problems(state, classes)
    if problems:
        raise BadState(
            f"the state does not fit the bundle for {classes} classes: {'; '.join(problems)}"
        )
    opener: Opener = importlib.import_module(row.module).open_session
    return opener(bundle, classes, state, threads or usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may run on, a container's limit by affinity included."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _choose(bundle: Bundle, name: str | None) -> Runtime:
    served = [row for row in RUNTIMES if row.in_bundle and row.name in bundle.manifest.runtimes]
    if name is None and served:
        return served[0]
    known = {row.name: row for row in RUNTIMES}
    if name is not None and name not in known:
        raise UsageError(f"runtime {name!r} is unknown; known are {', '.join(known)}")
    if name is not None and (known[name] in served or not known[name].in_bundle):
        return known[name]
    raise BadBundle(
        f"{bundle.path} has files for {', '.join(bundle.manifest.runtimes) or 'no runtime'}, "
        f"not for {name or ' or '.join(row.name for row in RUNTIMES if row.in_bundle)}; "
        "export the bundle for this runtime"
    )
