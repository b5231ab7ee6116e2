"""What a person should know of how a run goes on, before it does."""

from __future__ import annotations

from mobiletl.device.printable import printable
from mobiletl.device.run.opening import Opened


def notes(opened: Opened) -> list[str]:
    """Return a sentence each: what was found, what has changed, what is replayed."""
    found = list(opened.notes)
    here, checkpoint = opened.settings.runtime, opened.checkpoint
    if checkpoint is not None and checkpoint.settings.runtime != here:
        before = checkpoint.settings.runtime
        found.append(
            f"this run goes on on {here}, where it was on {before}: the numbers round otherwise"
        )
    if opened.former is not None or opened.kept.counts():
        found.append(_replayed(opened))
    return found


def _replayed(opened: Opened) -> str:
    """Say what is trained on besides the pictures that are there."""
    counts, former = opened.kept.counts(), opened.former
    if counts:
        listed = ", ".join(f"{count} of '{printable(name)}'" for name, count in counts.items())
        return f"replayed are pictures that are gone, from feature maps that are kept: {listed}"
    if former is not None and former.memory is None:
        return "the former run kept no feature maps, so none of its pictures is replayed"
    return "all pictures that the former run kept are still here, so none is replayed"
