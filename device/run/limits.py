"""What the settings of a run may be; every problem is reported at once."""

from __future__ import annotations

from typing import Any, Mapping

from mobiletl.device.errors import UsageError

# What a 32-bit float holds: a step takes its rate as one.
LARGEST_LR = 3.4e38
# The least a setting may be.
LEAST = {"epochs": 1, "batch": 1, "seed": 0, "micro_batch": 1, "threads": 0, "save_every": 1}
KNOWN = ("epochs", "batch", "lr", "seed", "augment", "val_split", "micro_batch", "runtime")


def problems_of(given: Mapping[str, Any], flags: bool = False) -> list[str]:
    """Say what is out of range; None counts as not given. `flags` names settings as flags."""

    def called(name: str) -> str:
        return f"--{name.replace('_', '-')}" if flags else name

    problems = [
        f"{called(name)} is {given[name]}, expected at least {least}"
        for name, least in LEAST.items()
        if given.get(name) is not None and given[name] < least
    ]
    lr, val_split = given.get("lr"), given.get("val_split")
    if lr is not None and not 0 < lr <= LARGEST_LR:
        problems.append(f"{called('lr')} is {lr}, expected a positive number")
    if val_split is not None and not 0 < val_split < 1:
        problems.append(f"{called('val_split')} is {val_split}, expected a share between 0 and 1")
    return problems


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
