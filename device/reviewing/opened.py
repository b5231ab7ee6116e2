"""A run found again in its folder: its bundle, its pictures, and the state to review."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.levels import of_state
from mobiletl.device.bundle.schema import fields, integer, text
from mobiletl.device.bundle.settings_schema import SETTINGS_OF_RUN
from mobiletl.device.bundle.state_file import StateInfo, open_state
from mobiletl.device.errors import BadPictures, BadState, UsageError
from mobiletl.device.pictures.dataset import Dataset, open_dataset
from mobiletl.device.pictures.needs import needs_of
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.events import FINISHED
from mobiletl.device.run.events_file import read_events
from mobiletl.device.run.options import DEFAULTS


@dataclass(frozen=True)
class Asked:
    """What a person named; None is what the run itself says."""

    run: Path
    bundle: Path | None = None
    data: Path | None = None
    state: Path | None = None
    cache: Path | None = None
    """The folder of the feature maps, where the run was given one."""
    threads: int = 0
    runtime: str | None = None
    trust: bool = False
    """Whether the bundle's programs may be run."""
    key: str | None = None
    """The public key that the bundle must be signed with."""


@dataclass(frozen=True)
class Opened:
    """A run whose state and pictures are there; `notes` are sentences that a person should read."""

    folder: RunFolder
    bundle: Bundle
    dataset: Dataset
    state: Path
    info: StateInfo
    planned_bytes: int | None
    """What the run was planned with."""
    runtime: str | None
    cache: Path | None
    notes: tuple[str, ...]


def open_reviewed(asked: Asked, bundle_beside: Path | None = None) -> Opened:
    """Find everything; `bundle_beside` is taken where the run's own bundle is not named.

    Raises BadState for what is no run, or has no state yet, BadBundle, BadPictures, UsageError.
    """
    shown = printable(str(asked.run))
    if not asked.run.is_dir():
        raise BadState(f"there is no folder {shown}; name the folder of a run, as in runs/first")
    folder = RunFolder(asked.run)
    events = read_events(folder.events)
    started: dict[str, Any] = {}
    for line in events:
        started = line if line["event"] == "started" and _is_started(line) else started
    if not started and asked.state is None and not folder.holds_run():
        raise BadState(f"{shown} holds no run; name the folder that `mobiletl train` wrote")
    if asked.state is None and not folder.holds_run():
        raise BadState(
            f"the run in {shown} has saved no state yet; wait for its first epoch, or look for "
            "what it says at the end of events.jsonl"
        )
    places = _Places(asked.run, started)
    bundle = open_bundle(
        asked.bundle or bundle_beside or places.named("bundle"), asked.trust, asked.key
    )
    state = asked.state or folder.best
    bundle = of_state(bundle, state)
    stored, info = open_state(state, bundle.manifest)
    stored.close()
    settings = {**DEFAULTS, **started.get("settings", {}), **info.settings.get("run", {})}
    data = asked.data or places.named("data")
    needs = needs_of(bundle.manifest.input, settings["decode_memory"])
    dataset = open_dataset(
        data, settings["val_split"], settings["seed"], info.class_names, settings["layout"], needs
    )
    _check_classes(dataset, info, shown)
    return Opened(
        folder,
        bundle,
        dataset,
        state,
        info,
        started.get("planned_bytes"),
        asked.runtime or settings.get("runtime"),
        asked.cache,
        tuple(_notes(events, settings, dataset)),
    )


_NAME = text()
_STARTED = fields(
    {},
    {
        "settings": SETTINGS_OF_RUN,
        "run": _NAME,
        "bundle": _NAME,
        "data": _NAME,
        "planned_bytes": integer(),
    },
)


def _is_started(line: Mapping[str, Any]) -> bool:
    """Whether what is read of such a line is of the right types."""
    problems: list[str] = []
    _STARTED(line, "", problems)
    return not problems


class _Places:
    """Folders that a run named, seen from where it ran or from here."""

    def __init__(self, run: Path, started: Mapping[str, Any]) -> None:
        self._started = started
        self._shown = printable(str(run))
        self._homes = [Path(), *_where_it_ran(run, started.get("run"))]

    def named(self, what: str) -> Path:
        """Return the folder that the run calls its `what`; raises UsageError."""
        name = self._started.get(what)
        if not isinstance(name, str):
            raise UsageError(f"the run in {self._shown} does not say its {what}; name --{what} DIR")
        for home in self._homes:
            if (home / name).is_dir():
                return home / name
        raise (UsageError if what == "bundle" else BadPictures)(
            f"the run in {self._shown} was trained with {printable(name)}, which is not there; "
            f"say where it is now with --{what} DIR"
        )


def _where_it_ran(run: Path, named: object) -> list[Path]:
    """Return the folder that a run was started in, if the end of its path still tells."""
    if not isinstance(named, str) or Path(named).is_absolute() or ".." in Path(named).parts:
        return []
    parts, here = Path(named).parts, run.resolve()
    return [here.parents[len(parts) - 1]] if parts and here.parts[-len(parts) :] == parts else []


def _check_classes(dataset: Dataset, info: StateInfo, run: str) -> None:
    """Refuse pictures of classes that the run does not know."""
    unknown = [name for name in dataset.class_names if name not in info.class_names]
    if unknown:
        raise BadPictures(
            f"{printable(str(dataset.root))} has a class '{printable(unknown[0])}' that the run in "
            f"{run} does not know; name its pictures with --data DIR"
        )
    if dataset.class_names != info.class_names:
        raise BadState(
            f"the state of {run} has its classes in another order than their names; it was not "
            "written by `mobiletl train`"
        )


def _notes(
    events: list[dict[str, Any]], settings: Mapping[str, Any], dataset: Dataset
) -> list[str]:
    notes = list(dataset.notes)
    last = events[-1] if events else {}
    if last.get("event") != "ended" or last.get("outcome") != FINISHED:
        notes.append("the run has not finished; this is the best of its epochs so far")
    if settings.get("pictures") not in (None, dataset.fingerprint()):
        notes.append(
            "the pictures are not the ones that the run saw: some were added, removed, changed or "
            "moved to another class, and some that validate here may have been trained on"
        )
    if dataset.skipped:
        notes.append(f"{len(dataset.skipped)} files are no pictures and were left out")
    return notes
