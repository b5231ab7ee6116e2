"""The state that a new run begins from: given, the bundle's, or that of the run it follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable
from mobiletl.device.run.former import FormerRun
from mobiletl.device.run.opening import Opened
from mobiletl.device.run.start import Start, bundle_start
from mobiletl.device.solving.closed_form import START_SCALE


@dataclass(frozen=True)
class Beginning:
    """A state by name, and what its origin is called."""

    tensors: Tensors
    origin: str
    needs_head: bool = False
    """Whether its classifier is yet to be solved for."""


def first_state(bundle: Bundle, opened: Opened, start: Start | None = None) -> Beginning:
    """Return what to begin from: `start`, else the former run's state, else the bundle's.

    A former run's classifier stays while the classes do. With other classes there is a new one,
    and so there is after `teach`, whose classifier was not trained together with the layers below.
    Raises BadState, and UsageError for a class of which nothing is left to solve for.
    """
    manifest, names, former = bundle.manifest, opened.dataset.class_names, opened.former
    if start is not None:
        return Beginning(start.for_classes(manifest, names), start.origin)
    fresh = bundle_start(bundle, names, opened.settings.seed)
    if former is None:
        return Beginning(dict(fresh.tensors), fresh.origin, needs_head=True)
    _require_pictures(opened, former)
    if sorted(former.class_names) == sorted(names) and not former.taught:
        begin = former.start.for_classes(manifest, names)
        if former.settled and manifest.classifier is not None:
            begin = {**begin, **_less_sure(begin, manifest.classifier)}
        return Beginning(begin, former.start.origin)
    of_classes = {entry.name for entry in manifest.state if "K" in entry.shape}
    grown = {
        name: tensor if name in of_classes else former.start.tensors[name]
        for name, tensor in fresh.tensors.items()
    }
    return Beginning(grown, former.start.origin, needs_head=True)


def _less_sure(state: Tensors, classifier: tuple[str, str]) -> Tensors:
    """Scale a classifier that was solved for as one that training begins from."""
    return {name: state[name] * np.float32(START_SCALE) for name in classifier}


def _require_pictures(opened: Opened, former: FormerRun) -> None:
    """Refuse a class of which nothing is left: training the others would make it forgotten."""
    dataset, kept = opened.dataset, opened.kept
    seen = {picture.label for picture in dataset.train} | {one.label for one in kept.train}
    missing = [name for label, name in enumerate(dataset.class_names) if label not in seen]
    if missing:
        name = printable(missing[0])
        raise UsageError(
            f"of class '{name}' there is neither a picture here nor a feature map that "
            f"{printable(str(former.run))} kept; add pictures of it, say what it is called now "
            f"with --rename '{name}=NEW', or leave it out with --drop '{name}'"
        )
