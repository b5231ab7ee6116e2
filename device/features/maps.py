"""Where a run finds maps: in its cache, and in what an earlier run kept for replay."""

from __future__ import annotations

from dataclasses import dataclass

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.features.store import FeatureStore
from mobiletl.device.pictures.dataset import Picture


@dataclass(frozen=True)
class Maps:
    """`cache` is read and written, `memory` is read; each may be missing."""

    cache: FeatureStore | None = None
    memory: FeatureStore | None = None

    def read(self, picture: str, view: int, out: Floats) -> bool:
        """Write a map to `out` f32[C,h,w]; False where there is none that is sound."""
        return any(store.read(picture, view, out) for store in self._stores())

    def add(self, picture: str, view: int, class_name: str, content: bytes) -> None:
        """Keep an encoded map in the cache, if there is one; raises NoSpace."""
        if self.cache is not None:
            self.cache.add(picture, view, class_name, content)

    def picture_of(self, file: Picture) -> str | None:
        """Return the picture in a file that was read before, unless it has changed since."""
        found = (store.picture_of(file) for store in self._stores())
        return next((picture for picture in found if picture is not None), None)

    def remember(self, file: Picture, picture: str) -> None:
        """Note in the cache, if there is one, which picture a file holds; raises NoSpace."""
        if self.cache is not None:
            self.cache.remember(file, picture)

    def has(self, picture: str, view: int) -> bool:
        """Whether there is such a map; it may still turn out damaged."""
        return any(store.has(picture, view) for store in self._stores())

    def is_foreign(self, picture: str, view: int) -> bool:
        """Whether the file that has such a map was begun by somebody else, or elsewhere."""
        return any(one.foreign for one in self._stores() if one.has(picture, view))

    def place_of(self, picture: str, view: int) -> str:
        """Return the file that has such a map, for a message."""
        return next((str(one.path) for one in self._stores() if one.has(picture, view)), "")

    def _stores(self) -> list[FeatureStore]:
        return [store for store in (self.cache, self.memory) if store is not None]
