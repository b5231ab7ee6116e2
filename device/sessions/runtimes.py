"""Which runtime a bundle is opened with here, and the opening."""

from __future__ import annotations

import importlib
import os
from typing import Callable

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.schema import joined
from mobiletl.device.errors import BadBundle, BadState, MissingDependency, UsageError
from mobiletl.device.installed import installed_release
from mobiletl.device.sessions.rehearsal import rehearse
from mobiletl.device.sessions.session import Session
from mobiletl.device.sessions.table import MOST_THREADS, RUNTIMES, Runtime, known_runtime
from mobiletl.device.sessions.trust import require_trust

Opener = Callable[[Bundle, int, Tensors, int, int], Session]


# Both install a package named onnxruntime, each over the other's files.
TWINS = ("onnxruntime", "onnxruntime-training-cpu")


def open_session(
    bundle: Bundle,
    classes: int,
    state: Tensors,
    threads: int = 0,
    runtime: str | None = None,
    activations: int = 0,
) -> Session:
    """Open `bundle` for `classes` classes with a copy of `state`.

    `threads` = 0 takes every core this process may use; `activations` are the bytes that a call's
    tensors are planned to take at most, 0 where nobody has planned; `runtime` as in
    `choose_runtime`, whose errors are raised, too; UsageError if the bundle is fixed to another
    number of classes there; BadState if the tensors do not fit the manifest; Untrusted if its files
    are programs that nobody has said to trust; BadBundle if opening it ends a process.
    """
    check_threads(threads)
    row = choose_runtime(bundle, runtime)
    _check_classes(bundle, row, classes)
    problems = bundle.manifest.tensor_problems(state, classes)
    if problems:
        raise BadState(
            f"the state does not fit the bundle for {classes} classes: {joined(problems)}"
        )
    if row.in_bundle:
        _check_files(bundle, row)
        require_trust(bundle, row)
        rehearse(bundle, row)
    opener: Opener = importlib.import_module(row.module).open_session
    return opener(bundle, classes, state, threads or usable_cores(), activations)


def check_threads(threads: int) -> None:
    """Raise UsageError for less than none, and for more than any board has cores."""
    if threads < 0:
        raise UsageError(f"threads is {threads}, expected at least 0")
    if threads > MOST_THREADS:
        raise UsageError(
            f"{threads} threads are asked for, expected at most {MOST_THREADS}, or 0 for all cores"
        )


def usable_cores() -> int:
    """Return how many cores this process may run on, a container's limit by affinity included."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_runtime(bundle: Bundle, name: str | None = None) -> Runtime:
    """Return the runtime called `name`, or the first that `bundle` serves and that is installed.

    Raises UsageError for an unknown one, BadBundle if the bundle does not serve it,
    MissingDependency with the command that helps if it is not installed.
    """
    if name is not None and not known_runtime(name).in_bundle:
        return known_runtime(name)
    served = [row for row in RUNTIMES if row.in_bundle and row.name in bundle.manifest.runtimes]
    wanted = [row for row in served if name in (None, row.name)]
    if not wanted:
        raise BadBundle(
            f"{bundle.path} has files for {', '.join(bundle.manifest.runtimes) or 'no runtime'}, "
            f"not for {name or ' or '.join(row.name for row in RUNTIMES if row.in_bundle)}; "
            "export the bundle for this runtime (mobiletl export --runtimes)"
        )
    _refuse_twins(wanted)
    for row in wanted:
        if row.installed():
            return row
    ways = "; ".join(f"{row.name} comes by: {row.install}" for row in wanted)
    raise MissingDependency(
        f"no runtime that can run {bundle.path} is installed, expected "
        f"{' or '.join(row.name for row in wanted)}; {ways}"
    )


def _check_files(bundle: Bundle, row: Runtime) -> None:
    """Refuse a bundle that lacks a file of `row`, or does not say what they are fixed to."""
    files = bundle.manifest.runtimes[row.name]
    missing = [role for role in row.roles if role not in files.files]
    if missing:
        raise BadBundle(
            f"{bundle.path} names no {' and no '.join(missing)} for {row.name}, expected "
            f"{', '.join(row.roles)}; export the bundle again"
        )
    if row.fixed and (files.batch is None or files.classes is None):
        raise BadBundle(
            f"{bundle.path} does not say of how many pictures and classes its files for {row.name} "
            "are; export the bundle again"
        )


def static_batch(bundle: Bundle, row: Runtime) -> int | None:
    """Return how many pictures a step takes on `row`, None if any number."""
    return bundle.manifest.runtimes[row.name].batch if row.in_bundle else None


def _check_classes(bundle: Bundle, row: Runtime, classes: int) -> None:
    exported = bundle.manifest.runtimes[row.name].classes if row.in_bundle else None
    if exported is not None and exported != classes:
        raise UsageError(
            f"{bundle.path} was exported for {exported} classes on {row.name}, found {classes}; "
            f"export it again with --classes {classes}, or train with --runtime onnxruntime"
        )


def _refuse_twins(wanted: list[Runtime]) -> None:
    if not any(row.package.split(".")[0] == TWINS[0] for row in wanted):
        return
    releases = {name: installed_release(name) for name in TWINS}
    if all(releases.values()):
        both = " and ".join(f"{name} {release}" for name, release in releases.items())
        raise MissingDependency(
            f"{both} are both installed and overwrite each other; pip uninstall -y "
            f"{' '.join(releases)}, then install one of them"
        )
