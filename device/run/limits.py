"""What the settings of a run may be; every problem is reported at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping

from mobiletl.device.errors import UsageError
from mobiletl.device.pictures.layouts import LAYOUTS
from mobiletl.device.sessions.table import MOST_THREADS

if TYPE_CHECKING:
    from mobiletl.device.bundle.manifest import Manifest

# Where a run begins that is given no state: the classifier is solved for, or drawn.
CLOSED_FORM = "closed-form"
RANDOM = "random"
STARTS = (CLOSED_FORM, RANDOM)
# Pixels of a picture to one of the last map.
STRIDES = 32
# What a 32-bit float holds: a step takes its rate as one.
LARGEST_LR = 3.4e38
# Limits of a processor's temperature: a cool room has less, and no processor works at more.
COOLEST_LIMIT_C, HOTTEST_LIMIT_C = 25, 120
# The least a setting may be.
LEAST = {
    "epochs": 1,
    "batch": 1,
    "seed": 0,
    "views": 0,
    "micro_batch": 1,
    "decode_memory": 1,
    "threads": 0,
    "blocks": 0,
    "save_every": 1,
}
KNOWN = (
    "epochs",
    "batch",
    "lr",
    "seed",
    "augment",
    "views",
    "start",
    "val_split",
    "micro_batch",
    "runtime",
    "layout",
    "decode_memory",
    "blocks",
)


def problems_of(given: Mapping[str, Any], flags: bool = False) -> list[str]:
    """Say what is out of range; None counts as not given. `flags` names settings as flags."""
    problems = below_least(given, LEAST, flags)
    threads = given.get("threads")
    if threads is not None and threads > MOST_THREADS:
        name = _called("threads", flags)
        problems.append(f"{name} is {threads}, expected at most {MOST_THREADS}, or 0 for all cores")
    lr, val_split = given.get("lr"), given.get("val_split")
    if lr is not None and not 0 < lr <= LARGEST_LR:
        problems.append(f"{_called('lr', flags)} is {lr}, expected a positive number")
    if val_split is not None and not 0 < val_split < 1:
        name = _called("val_split", flags)
        problems.append(f"{name} is {val_split}, expected a share between 0 and 1")
    start = given.get("start")
    if start is not None and start not in STARTS:
        problems.append(f"{_called('start', flags)} is {start!r}, expected {' or '.join(STARTS)}")
    layout = given.get("layout")
    if layout is not None and layout not in LAYOUTS:
        expected = " or ".join(LAYOUTS)
        problems.append(f"{_called('layout', flags)} is {layout!r}, expected {expected}")
    if given.get("views") is not None and given["views"] != 1 and given.get("augment") is False:
        problems.append(
            f"{_called('views', flags)} is {given['views']}, but without augmentation there is "
            "the central crop alone; leave one of them out"
        )
    problems += _of_machine(given, flags)
    budget = given.get("save_budget")
    if budget is not None and not 0 < budget < math.inf:
        name = _called("save_budget", flags)
        problems.append(f"{name} is {budget}, expected a positive number of bytes in an hour")
    if given.get("replay_mb") is not None and not 0 <= given["replay_mb"] < 1e9:
        name = _called("replay_mb", flags)
        problems.append(f"{name} is {given['replay_mb']}, expected at least 0")
    return problems


def _of_machine(given: Mapping[str, Any], flags: bool) -> list[str]:
    """Say which limits of the machine make no sense."""
    degrees, cores = given.get("max_temp"), given.get("max_load")
    problems = []
    if degrees is not None and not COOLEST_LIMIT_C <= degrees <= HOTTEST_LIMIT_C:
        problems.append(
            f"{_called('max_temp', flags)} is {degrees}, expected degrees Celsius from "
            f"{COOLEST_LIMIT_C} to {HOTTEST_LIMIT_C}"
        )
    if cores is not None and not 0 < cores < math.inf:
        problems.append(
            f"{_called('max_load', flags)} is {cores}, expected a positive number of cores"
        )
    return problems


def check_batch(manifest: Manifest, batch: int) -> None:
    """Refuse a batch in which a norm sees one value a channel: such a value has no variance.

    That is one picture whose map has become 1 x 1, which it is where the feature map is already, or
    behind all strides of a network, which are 32. Raises UsageError.
    """
    _, height, width = manifest.feature.shape
    smallest = height * width
    if manifest.input.resolution >= STRIDES:
        smallest = min(smallest, (manifest.input.resolution // STRIDES) ** 2)
    has_statistics = any(entry.role == "statistic" for entry in manifest.state)
    if has_statistics and batch * smallest == 1:
        raise UsageError(
            f"--batch 1 leaves norms that are trained one value a channel, because pictures of "
            f"{manifest.input.resolution} pixels end in maps of 1 x 1; take --batch 2 or more, or "
            f"export with a --resolution of {2 * STRIDES} or more"
        )


def below_least(given: Mapping[str, Any], least: Mapping[str, int], flags: bool) -> list[str]:
    """Say what is smaller than `least` allows; None counts as not given."""
    return [
        f"{_called(name, flags)} is {given[name]}, expected at least {limit}"
        for name, limit in least.items()
        if given.get(name) is not None and given[name] < limit
    ]


def check_given(given: Mapping[str, Any], resume: bool, has_start: bool) -> None:
    """Refuse settings that nobody knows or that are out of range; raises UsageError."""
    problems = [
        f"{name} is no setting, expected some of {', '.join(KNOWN)}"
        for name in given
        if name not in KNOWN
    ]
    problems += problems_of({name: given.get(name) for name in KNOWN})
    if resume and has_start:
        problems.append("a run that is resumed has a state already, so it takes no start")
    if problems:
        raise UsageError("; ".join(problems))


def _called(name: str, flags: bool) -> str:
    return f"--{name.replace('_', '-')}" if flags else name
