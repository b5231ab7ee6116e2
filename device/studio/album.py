"""The pictures of a project by class, and where each one is.

A picture is known by the first 16 hex digits of the SHA-256 of its file. Requests name pictures by
that and classes by their names; both are looked up here, and only paths that were found in the
folder are ever opened.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, Sequence

from mobiletl.device.bundle.decode import UnreadablePicture, check_header
from mobiletl.device.bundle.digest import file_digest
from mobiletl.device.pictures.class_names import problem_of_class_name
from mobiletl.device.pictures.dataset import files_below
from mobiletl.device.printable import printable
from mobiletl.device.studio.files import no_space, remove_quietly, remove_temporaries
from mobiletl.device.studio.refused import Refused

MOST_PICTURES = 5000
MOST_CLASSES = 100
ID_DIGITS = 16
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
# A class that is being deleted; a dot hides it from every data set.
LEAVING = ".leaving-"


@dataclass(frozen=True)
class Kept:
    """One picture of the project."""

    id: str
    class_name: str
    path: Path


class Album:
    """Everything may be called from any thread; `revision` rises with every change."""

    def __init__(self, folder: Path) -> None:
        """Find the classes and pictures in `folder`; `notes` then says what was left out."""
        self.folder = folder
        self.revision = 0
        self.notes: list[str] = []
        self._lock = threading.RLock()
        self._classes: list[str] = []
        self._kept: dict[str, Kept] = {}
        remove_temporaries(folder)
        for leaving in folder.glob(f"{LEAVING}*"):
            shutil.rmtree(str(leaving), ignore_errors=True)
        for home in sorted(folder.iterdir()):
            if home.is_dir() and not home.name.startswith("."):
                self._find(home)

    def counts(self) -> list[tuple[str, int]]:
        """Return every class with the number of its pictures, in the order of their names."""
        with self._lock:
            counts = dict.fromkeys(self._classes, 0)
            for kept in self._kept.values():
                counts[kept.class_name] += 1
            return sorted(counts.items())

    def labels(self) -> dict[str, str]:
        """Return the class of every picture by its id."""
        with self._lock:
            return {kept.id: kept.class_name for kept in self._kept.values()}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, picture: str) -> Kept:
        """Return the picture of an id; raises Refused (404)."""
        kept = self._kept.get(picture)
        if kept is None:
            raise Refused(404, f"there is no picture {picture[:40]!r}; it may be deleted")
        return kept

    def known(self, picture: str) -> Kept | None:
        """Return the picture of an id, if there is one."""
        return self._kept.get(picture)

    def listed(self, class_name: str | None, start: int, limit: int) -> tuple[list[Kept], int]:
        """Return some pictures of a class (None is all), the newest first, and how many it has."""
        with self._lock:
            if class_name is not None:
                self.check_class(class_name)
            chosen = [kept for kept in self._kept.values() if class_name in (None, kept.class_name)]
        chosen.reverse()
        return chosen[start : start + limit], len(chosen)

    def by_path(self) -> dict[Path, str]:
        """Return the id of every picture by where it is."""
        with self._lock:
            return {kept.path: kept.id for kept in self._kept.values()}

    def check_class(self, name: str) -> None:
        """Raise Refused (404) for a class that is not there."""
        if name not in self._classes:
            raise Refused(404, f"there is no class '{name[:80]}'; it may be renamed or deleted")

    def add_class(self, name: str) -> None:
        """Make a class without pictures; raises Refused, NoSpace."""
        with self._lock:
            self._check_new(name)
            if len(self._classes) >= MOST_CLASSES:
                raise Refused(409, f"there are {MOST_CLASSES} classes, and no more are taken")
            try:
                (self.folder / name).mkdir()
            except OSError as error:
                raise no_space(self.folder / name, error) from error
            self._classes.append(name)
            self.revision += 1

    def rename_class(self, name: str, to: str) -> None:
        """Call a class otherwise; raises Refused, also (409) if somebody else has just done so."""
        with self._lock:
            if name not in self._classes:
                shown = name[:80]
                raise Refused(409, f"there is no class '{shown}' any more; somebody renamed it")
            if to == name:
                return
            self._check_new(to, besides=name)
            try:
                (self.folder / name).rename(self.folder / to)
            except OSError as error:
                raise no_space(self.folder / to, error) from error
            self._classes[self._classes.index(name)] = to
            for kept in list(self._kept.values()):
                if kept.class_name == name:
                    path = self.folder / to / kept.path.relative_to(self.folder / name)
                    self._kept[kept.id] = replace(kept, class_name=to, path=path)
            self.revision += 1

    def delete_class(self, name: str) -> None:
        """Delete a class with its pictures; raises Refused."""
        with self._lock:
            self.check_class(name)
            # In one step, so that a training that starts now sees all of it or nothing.
            leaving = self.folder / f"{LEAVING}{os.getpid()}-{self.revision}"
            try:
                (self.folder / name).rename(leaving)
            except OSError as error:
                raise no_space(self.folder / name, error) from error
            self._classes.remove(name)
            for kept in [kept for kept in self._kept.values() if kept.class_name == name]:
                del self._kept[kept.id]
            self.revision += 1
        if leaving.is_symlink():
            remove_quietly(leaving)
        else:
            shutil.rmtree(str(leaving), ignore_errors=True)

    def check_room(self) -> None:
        """Raise Refused if there are too many pictures already."""
        if len(self._kept) >= MOST_PICTURES:
            raise Refused(
                409, f"there are {MOST_PICTURES} pictures, and no more are taken; delete some"
            )

    def take(self, written: Path, picture: str, suffix: str, class_name: str) -> Kept | None:
        """Give the whole file `written`, on the same disk, its place; None if it is known already.

        Raises Refused if the class has gone meanwhile, and NoSpace.
        """
        with self._lock:
            self.check_class(class_name)
            self.check_room()
            if picture in self._kept:
                return None
            path = self.folder / class_name / f"{picture}{suffix}"
            try:
                written.replace(path)
            except OSError as error:
                raise no_space(path, error) from error
            kept = self._kept[picture] = Kept(picture, class_name, path)
            self.revision += 1
            return kept

    def move(self, pictures: Sequence[str], to: str) -> int:
        """Move pictures to another class; returns how many were there still."""
        with self._lock:
            self.check_class(to)
            moved = 0
            for kept in self._there(pictures):
                path = self.folder / to / f"{kept.id}{kept.path.suffix.lower()}"
                if kept.class_name != to:
                    try:
                        kept.path.replace(path)
                    except FileNotFoundError:
                        del self._kept[kept.id]
                        continue
                    except OSError as error:
                        raise no_space(path, error) from error
                    self._kept[kept.id] = Kept(kept.id, to, path)
                moved += 1
            self.revision += 1
            return moved

    def delete(self, pictures: Sequence[str]) -> int:
        """Delete pictures; returns how many were there still."""
        with self._lock:
            there = list(self._there(pictures))
            for kept in there:
                remove_quietly(kept.path)
                del self._kept[kept.id]
            self.revision += 1
            return len(there)

    def _there(self, pictures: Sequence[str]) -> Iterable[Kept]:
        found = [self._kept.get(picture) for picture in dict.fromkeys(pictures)]
        return [kept for kept in found if kept is not None]

    def _check_new(self, name: str, besides: str = "") -> None:
        others = [other for other in self._classes if other != besides]
        if name in others:
            raise Refused(409, f"there is a class '{name}' already; choose another name")
        problem = problem_of_class_name(name, others)
        if problem is not None:
            raise Refused(400, problem)
        if (self.folder / name).exists() and name != besides:
            raise Refused(409, f"there is something called '{name}' among the classes already")

    def _find(self, home: Path) -> None:
        """Take in a class folder, its pictures by age."""
        self._classes.append(home.name)
        remove_temporaries(home)
        dated = []
        for path in files_below(home):
            try:
                dated.append((path.stat().st_mtime_ns, path))
            except OSError:
                continue
        for _, path in sorted(dated):
            try:
                # A power cut leaves the newest files empty.
                check_header(path)
                picture = _id_of_file(path)
            except (UnreadablePicture, OSError):
                self._leave_out(path, "is no picture that can be read")
                continue
            if picture in self._kept:
                other = self._kept[picture].path
                self._leave_out(path, f"is the same picture as {printable(str(other))}")
                continue
            self._kept[picture] = Kept(picture, home.name, path)

    def _leave_out(self, path: Path, why: str) -> None:
        self.notes.append(f"{printable(str(path.relative_to(self.folder)))} {why}; it is left out")


def _id_of_file(path: Path) -> str:
    """Return the id of a file; one that carries its id as its name need not be read."""
    return path.stem if _ID.fullmatch(path.stem) else file_digest(path)[:ID_DIGITS]
