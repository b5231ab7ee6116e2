"""Keeps the list of files that were left out, those found damaged during training included."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Mapping, Sequence

from mobiletl.device.bundle.replacing import replacing
from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import Dataset, Picture, Skipped
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write


class SkippedFiles:
    """Starts with what the folder scan skipped; decoding adds to it.

    Headers are checked when the folder is opened, pixels only when a picture is first needed:
    decoding thousands of photos before the first step would keep a board busy for minutes.
    """

    def __init__(
        self,
        dataset: Dataset,
        earlier: Mapping[str, str] | None = None,
        on_new: Callable[[str, str], None] | None = None,
    ) -> None:
        """Take over what the scan skipped, and of `earlier` reasons those of pictures that it did
        not; `on_new` hears path and reason of each that comes later.
        """
        self._dataset = dataset
        self._on_new = on_new
        self._by_path: dict[str, Skipped] = {entry.path: entry for entry in dataset.skipped}
        self._late: set[Picture] = set()
        for picture in (*dataset.train, *dataset.val):
            reason = (earlier or {}).get(picture.path)
            if reason is not None:
                self._by_path[picture.path] = Skipped(picture.path, reason)

    def train_row(self, row: int, reason: str) -> None:
        """Note training picture `row`; raises BadPictures if its class has none left."""
        picture = self._dataset.train[row]
        if self._add(picture, reason) and not self._left(self._dataset.train, picture.label):
            name = printable(self._dataset.class_names[picture.label])
            raise BadPictures(
                f"no picture of class '{name}' can be decoded (last: {printable(picture.path)}: "
                f"{printable(reason)}); put sound pictures in or remove the folder"
            )

    def val_row(self, row: int, reason: str) -> None:
        """Note validation picture `row`; raises BadPictures if none is left at all."""
        picture = self._dataset.val[row]
        if self._add(picture, reason) and self._late.issuperset(self._dataset.val):
            raise BadPictures(
                f"no validation picture can be decoded (last: {printable(picture.path)}: "
                f"{printable(reason)}); put sound pictures in"
            )

    def entries(self) -> tuple[Skipped, ...]:
        """All files left out so far, by path."""
        return tuple(self._by_path[path] for path in sorted(self._by_path))

    def write(self, path: Path) -> None:
        """List the files in a text file, one per line; no file if there are none."""
        lines = [
            f"{printable(entry.path)}\t{printable(entry.reason)}\n" for entry in self.entries()
        ]
        try:
            if lines:
                with replacing(path) as stream:
                    stream.write("".join(lines).encode("utf-8"))
            elif path.exists():
                path.unlink()
        except OSError as error:
            raise cannot_write("the list of skipped files", path, error) from error

    def _add(self, picture: Picture, reason: str) -> bool:
        """Note it; False if it was noted before, in an earlier epoch."""
        new = picture not in self._late
        self._late.add(picture)
        entry = Skipped(picture.path, reason)
        if self._on_new is not None and self._by_path.get(picture.path) != entry:
            self._on_new(picture.path, reason)
        self._by_path[picture.path] = entry
        return new

    def _left(self, part: Sequence[Picture], label: int) -> list[Picture]:
        return [p for p in part if p.label == label and p not in self._late]
