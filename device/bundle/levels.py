"""Which level of a bundle a state belongs to: that which it fits, or has the tensors of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.state_file import stated_fit


def of_state(bundle: Bundle, state: str | Path) -> Bundle:
    """Return `bundle` at the level that the state file `state` fits.

    It stays as it is where there is one level, and where the state fits none or cannot be read:
    what opens the state says so.
    """
    if not bundle.levels:
        return bundle
    return bundle.with_manifest(level_of_state(bundle.levels, state) or bundle.manifest)


def level_of_state(levels: Mapping[int, Manifest], state: str | Path) -> Manifest | None:
    """Return the manifest that the state file fits, None where it fits none."""
    fit = stated_fit(Path(state))
    return next((level for level in levels.values() if level.fit == fit), None)


def of_tensors(bundle: Bundle, tensors: Mapping[str, Any], classes: int) -> Bundle:
    """Return `bundle` at the level that has these arrays as its state, else as it is."""
    fitting = (
        level for level in bundle.levels.values() if not level.tensor_problems(tensors, classes)
    )
    return bundle.with_manifest(next(fitting, bundle.manifest))
