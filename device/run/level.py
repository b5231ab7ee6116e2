"""At which level of a bundle a run trains: how many blocks, and so how much memory it takes.

A run that goes on, or follows another, has the level of its state. Otherwise a person names one, or
a limit of memory chooses the deepest that keeps to it, or it is the bundle's own.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.levels import level_of_state, of_tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.limit import megabytes, needed
from mobiletl.device.memory.plan import decoded_bytes, plan
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.options import Options
from mobiletl.device.run.start import Start


def settled_level(options: Options, bundle: Bundle, start: Start | None) -> tuple[Bundle, bool]:
    """Return `bundle` at the level that a state or a person decides, and whether one did.

    Raises UsageError for a level that the bundle has not, or that the state was not trained at.
    """
    named = options.given.get("blocks")
    at = bundle if named is None else bundle.at(named)
    folder = RunFolder(options.run)
    states = [folder.last, folder.best]
    if options.former is not None and not folder.resumable():
        states = [RunFolder(options.former.run).best]
    elif not folder.resumable():
        states = []
    for state in states:
        level = level_of_state(bundle.levels, state)
        if level is None:
            continue
        if named not in (None, level.method.blocks):
            raise UsageError(
                f"the run in {printable(str(state.parent))} was trained at {blocks_of(level)}, not "
                f"at the {named} of --blocks; leave --blocks out, or start afresh with --out"
            )
        return bundle.with_manifest(level), True
    if start is not None and named is None:
        at = of_tensors(bundle, start.tensors, len(start.class_names))
    return at, bool(states) or start is not None or named is not None or not bundle.levels


def picked_level(
    bundle: Bundle, limit: int, values: Mapping[str, Any], dataset: Dataset
) -> tuple[Bundle, str]:
    """Return `bundle` at the deepest level that is planned with at most `limit` bytes, and a line
    that says so.

    `values` are the settings. Where no level keeps to the limit with the largest pictures, they may
    be left out (finding.py); where none does even so, it is the level that takes least.
    """

    def planned(level: Manifest, decoding: int) -> int:
        classes = len(dataset.class_names)
        batch, micro_batch, runtime = values["batch"], values["micro_batch"], values["runtime"]
        sizes = batch, classes, micro_batch
        return plan(level, *sizes, runtime, decoding, dataset.pictures).total_bytes

    decoding = dataset.decoding_bytes
    least = decoded_bytes(bundle.manifest.input)
    for pictures in (decoding, least):
        for level in bundle.levels.values():
            found = planned(level, pictures)
            if found <= limit:
                deeper = [one for one in bundle.levels.values() if _deeper(one, level)]
                line = _why(level, found, limit, deeper, lambda one: planned(one, decoding))
                return bundle.with_manifest(level), line
    level = min(bundle.levels.values(), key=lambda one: planned(one, decoding))
    return bundle.with_manifest(level), ""


def _deeper(level: Manifest, other: Manifest) -> bool:
    return level.method.blocks > other.method.blocks


def _why(
    level: Manifest,
    found: int,
    limit: int,
    deeper: list[Manifest],
    planned: Callable[[Manifest], int],
) -> str:
    line = (
        f"training {blocks_of(level)}, planned with {needed(found)} of the {megabytes(limit)} of "
        "--max-memory"
    )
    if not deeper:
        return f"{line}: the deepest level of the bundle"
    return f"{line}; {blocks_of(deeper[-1])} would take {needed(planned(deeper[-1]))}"


def blocks_of(level: Manifest) -> str:
    """Return how many blocks a level trains, as a line names them."""
    count = level.method.blocks
    return f"{count} block{'' if count == 1 else 's'}"


def named_level(bundle: Bundle) -> str:
    """Return what a refusal says of the level of `bundle`, empty where that has but one."""
    if not bundle.levels:
        return ""
    least = bundle.manifest.method.blocks == min(bundle.levels)
    return f" at {blocks_of(bundle.manifest)}{', the fewest of the bundle' if least else ''}"
