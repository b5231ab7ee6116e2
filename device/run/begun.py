"""A run that was begun and has saved nothing yet: what its record says it was begun with.

A run is killed, say, while it looks at its pictures for the first time. Resumed, it begins anew,
with the settings of its `started` line.
"""

from __future__ import annotations

from typing import Any, Mapping

from mobiletl.device.errors import BadState
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.events_file import read_events
from mobiletl.device.run.limits import problems_of

# Settings by the type that a line of JSON must have for them.
TYPES: Mapping[str, type] = {
    "epochs": int,
    "batch": int,
    "lr": float,
    "seed": int,
    "augment": bool,
    "views": int,
    "start": str,
    "val_split": float,
    "micro_batch": int,
    "runtime": str,
    "threads": int,
    "blocks": int,
}
# A state of the bundle, or that of a run that has lost all its files since.
OWN_ORIGINS = ("bundle", "resume")


def begun_settings(folder: RunFolder) -> dict[str, Any]:
    """Return the settings that the run in `folder` was begun with.

    Raises BadState where its record is torn, and for a run that began from another one's state:
    only its command knows which.
    """
    started: dict[str, Any] = {}
    for line in read_events(folder.events):
        started = line if line["event"] == "started" else started
    origin, named = started.get("origin"), started.get("settings")
    named = named if isinstance(named, dict) else {}
    found = {name: named[name] for name, kind in TYPES.items() if type(named.get(name)) is kind}
    if origin not in OWN_ORIGINS or problems_of(found):
        began = "does not say how it began" if origin is None else f"began from {origin}"
        raise BadState(
            f"the run in {printable(str(folder.path))} has saved nothing yet and "
            f"{printable(began)}; give the command again that began it"
        )
    return found
