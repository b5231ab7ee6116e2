"""Where a run begins: a state, the names of its classes, and where it comes from.

A bundle's initial state is one, and so is the state of an earlier run. What else has a state with
class names (a head computed in closed form, a round of a fleet) makes a `Start` of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.levels import of_state
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.schema import joined
from mobiletl.device.bundle.state_file import StateInfo, load_state
from mobiletl.device.errors import BadState

BUNDLE = "bundle"


@dataclass(frozen=True)
class Start:
    """Every entry of a state by name, with one row per class where a shape has K.

    `origin` is what the run's first event calls it. `answers` says how sure its answers are, where
    somebody has fitted that; a run that starts from it fits its own.
    """

    tensors: Tensors
    class_names: tuple[str, ...]
    origin: str
    answers: Answers | None = None

    def for_classes(self, manifest: Manifest, class_names: tuple[str, ...]) -> Tensors:
        """Return the state with its classes in the order of `class_names`.

        Raises BadState if these are other classes, or if the tensors do not fit `manifest`.
        """
        if sorted(class_names) != sorted(self.class_names):
            missing = sorted(set(class_names) - set(self.class_names))
            unknown = sorted(set(self.class_names) - set(class_names))
            raise BadState(
                f"the state to start from ({self.origin}) is of other classes than the pictures: "
                f"it lacks {missing or 'none'} and has {unknown or 'none'} besides; "
                "give it pictures of the same classes, or start from the bundle"
            )
        problems = manifest.tensor_problems(self.tensors, len(self.class_names))
        if problems:
            raise BadState(
                f"the state to start from ({self.origin}) does not fit the bundle: "
                f"{joined(problems)}"
            )
        if class_names == self.class_names:
            return dict(self.tensors)
        order = [self.class_names.index(name) for name in class_names]
        return dict(self.with_rows(manifest, order, class_names).tensors)

    def with_rows(
        self, manifest: Manifest, rows: Sequence[int], class_names: tuple[str, ...]
    ) -> Start:
        """Return these `rows` of its classes, called `class_names`, as a start."""
        tensors = {
            entry.name: _taken(self.tensors[entry.name], entry.shape, rows)
            for entry in manifest.state
        }
        return replace(self, tensors=tensors, class_names=class_names, answers=None)


def bundle_start(bundle: Bundle, class_names: tuple[str, ...], seed: int) -> Start:
    """Return the bundle's own initial state; the classifier is drawn from `seed`."""
    return Start(bundle.initial_state(len(class_names), seed), class_names, BUNDLE)


def state_start(path: str | Path, bundle: Bundle) -> Start:
    """Return a trained state of `bundle` as a start, with the optimizer's slots empty.

    A new run has its own schedule and pictures; momentum of the old ones says nothing about them.
    Raises BadState.
    """
    bundle = of_state(bundle, path)
    tensors, info = load_state(path, bundle.manifest)
    return start_of(tensors, info, bundle, str(path))


def start_of(tensors: Tensors, info: StateInfo, bundle: Bundle, origin: str) -> Start:
    """Return a state that was read, with `info`, as a start with empty slots."""
    slots = {entry.name for entry in bundle.manifest.state if entry.role == "slot"}
    emptied = {
        name: np.zeros_like(tensor) if name in slots else tensor for name, tensor in tensors.items()
    }
    return Start(emptied, info.class_names, origin)


def _taken(tensor: Floats, shape: tuple[int | str, ...], rows: Sequence[int]) -> Floats:
    """Return these rows of classes of `tensor`, or itself where it has no classes."""
    for axis, size in enumerate(shape):
        if size == "K":
            tensor = np.take(tensor, rows, axis)
    return tensor
