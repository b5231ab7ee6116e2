"""The states that a project has kept: classifiers that were solved for, and trained runs.

Each is an ordinary run folder with a small `version.json` beside the state, which says what a list
of versions shows, so that no state has to be read for that.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.schema import either, fields, integer, list_of, number, one_of, text
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.bundle.view import View
from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.solving.closed_form import with_head
from mobiletl.device.solving.taught import Solved
from mobiletl.device.studio.files import check_room, no_space, remove_quietly, write_whole
from mobiletl.device.studio.progress import Progress
from mobiletl.device.studio.project import VERSION_ID
from mobiletl.device.studio.refused import Refused

TAUGHT, TRAINED = "taught", "trained"
FILE = "version.json"
MOST = 200
MOST_BYTES = 262_144


@dataclass(frozen=True)
class Version:
    """What a list shows of one; `made` is in seconds since 1970."""

    id: str
    kind: str
    made: float
    classes: tuple[str, ...]
    pictures: int
    accuracy: float | None
    fit: str
    """`fit` of the manifest that it belongs to."""


_FILE = fields(
    {
        "version": one_of(1),
        "kind": one_of(TAUGHT, TRAINED),
        "made": number(minimum=0.0),
        "classes": list_of(text(), minimum=2),
        "pictures": integer(),
        "accuracy": either(one_of(None), number(minimum=0.0), "a number or null"),
        "fit": text(),
    }
)


class Versions:
    """Everything may be called from any thread."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        """Find what is in `folder`."""
        self.folder, self._bundle = folder, bundle
        self._lock = threading.Lock()
        self._known: dict[str, Version] = {}
        for path in folder.iterdir():
            found = _read(path) if re.fullmatch(VERSION_ID, path.name) else None
            if found is not None:
                self._known[found.id] = found

    def listed(self) -> list[Version]:
        """Return all, the newest first."""
        found = list(self._known.values())
        return sorted(found, key=lambda one: (one.made, one.id), reverse=True)

    def fits(self, version: Version) -> bool:
        """Return whether the bundle that is open can run it."""
        return version.fit == self._bundle.manifest.fit

    def find(self, version: str) -> Version:
        """Return the version of an id; raises Refused (404)."""
        found = self._known.get(version)
        if found is None:
            raise Refused(404, f"there is no version '{version[:60]}'; it may be deleted")
        return found

    def fitting(self, version: str) -> Path:
        """Return the folder of a version that the bundle can run; raises Refused."""
        found = self.find(version)
        if not self.fits(found):
            raise Refused(
                409,
                "this version was made with another bundle; start the studio with that one, or "
                "train again",
            )
        return self.folder / found.id

    def state(self, version: str) -> Path:
        """Return the state of a version that the bundle can run; raises Refused."""
        return RunFolder(self.fitting(version)).best

    def new_id(self, kind: str) -> str:
        """Return the id of a version that is to be, with its folder made; raises NoSpace."""
        check_room(self.folder)
        if len(self._known) >= MOST:
            raise Refused(409, f"there are {MOST} versions, and no more are kept; delete some")
        stem = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number_ in range(1000):
            name = f"{stem}-{number_}" if number_ else stem
            try:
                (self.folder / name).mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise no_space(self.folder / name, error) from error
            return name
        raise Refused(503, "too many versions were made this second; try again")

    def keep_taught(self, solved: Solved, view: View | None) -> Version:
        """Keep a classifier that was solved for on pictures that were taken in `view`.

        Raises NoSpace, and leaves nothing then.
        """
        manifest = self._bundle.manifest
        name = self.new_id(TAUGHT)
        try:
            state = self._bundle.initial_state(len(solved.class_names), 0)
            info = StateInfo(
                fit=manifest.fit,
                class_names=solved.class_names,
                epoch=0,
                step=0,
                seed=0,
                best_accuracy=solved.accuracy,
                settings={"taught": {"pictures": solved.pictures}},
                answers=solved.answers,
                view=view,
            )
            best = RunFolder(self.folder / name).best
            save_state(best, with_head(state, manifest, solved.head), info)
            return self._keep(
                Version(
                    name,
                    TAUGHT,
                    time.time(),
                    solved.class_names,
                    solved.pictures,
                    solved.accuracy,
                    manifest.fit,
                )
            )
        except NoSpace:
            shutil.rmtree(str(self.folder / name), ignore_errors=True)
            raise

    def keep_trained(self, name: str, progress: Progress) -> None:
        """Keep a training that has ended with a state; one without is no version."""
        if not RunFolder(self.folder / name).best.is_file() or len(progress.classes) < 2:
            return
        found = Version(
            name,
            TRAINED,
            progress.ended_at or time.time(),
            tuple(progress.classes),
            progress.pictures,
            progress.best_accuracy,
            self._bundle.manifest.fit,
        )
        former = self._known.get(name)
        if former is None or replace(found, made=former.made) != former:
            self._keep(found)

    def delete(self, version: str) -> None:
        """Delete a version; raises Refused."""
        found = self.find(version)
        with self._lock:
            self._known.pop(found.id, None)
        self.discard(found.id)

    def discard(self, name: str) -> None:
        """Remove the folder of an id of ours, version or not."""
        # Without it the rest is no version, also after a power cut in between.
        remove_quietly(self.folder / name / FILE)
        shutil.rmtree(str(self.folder / name), ignore_errors=True)

    def _keep(self, version: Version) -> Version:
        document: dict[str, Any] = {"version": 1, **asdict(version)}
        del document["id"]
        content = json.dumps(document, indent=1) + "\n"
        write_whole(self.folder / version.id / FILE, content.encode("utf-8"))
        with self._lock:
            self._known[version.id] = version
        return version


def _read(folder: Path) -> Version | None:
    """Return the version in a folder; None for a training that never came so far."""
    try:
        content = (folder / FILE).read_bytes()[:MOST_BYTES]
        document = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    problems: list[str] = []
    _FILE(document, printable(folder.name), problems)
    if problems:
        return None
    return Version(
        folder.name,
        document["kind"],
        float(document["made"]),
        tuple(document["classes"]),
        document["pictures"],
        document["accuracy"],
        document["fit"],
    )
