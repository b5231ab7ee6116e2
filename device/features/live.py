"""From pictures to feature maps: read from the store, else computed, in micro-batches.

The frozen prefix sets the peak memory of a step, so it sees `micro_batch` pictures at a time, 1 by
default, and only its small feature maps are collected. Letters: n pictures in a micro-batch, H = W
the resolution, C x h x w the feature map of one picture, N rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Sequence

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import normalise
from mobiletl.device.errors import BadState
from mobiletl.device.features.maps import Maps
from mobiletl.device.features.quantised import Codec
from mobiletl.device.features.views import Views, cut_views
from mobiletl.device.pictures.outage import patiently
from mobiletl.device.printable import printable
from mobiletl.device.sessions.session import Session

# So many maps that were found in a file from elsewhere are computed once more: a checksum says that
# a map is as it was written, not that it is one of this picture and of these layers.
COMPARED = 2
# Other releases decode and round a little otherwise; maps of two pictures differ by more than 1.
MOST_DIFFERENCE = 0.25
SMALLEST = 1e-6

# Called with the row of a picture that cannot be decoded, and the reason; perhaps every epoch.
OnUnreadable = Callable[[int, str], None]


# Asked before a map is computed that a later epoch will want; no map is, where this is not true.
Ahead = Callable[[], bool]


class FeatureSource(ABC):
    """Feature maps of one list of pictures; a row is a picture's position in that list."""

    computed = 0
    """How many maps went through the prefix."""

    @abstractmethod
    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        """Write the maps of the pictures `rows` to the first rows of `out` f32[N,C,h,w].

        Returns the rows really written, in order: pictures that cannot be decoded are left out.
        Raises PicturesAway where they cannot be read now.
        """


@dataclass(frozen=True)
class KnownPicture:
    """A picture as it is looked at: what it is known by, how to get it, its class and its views."""

    identity: str
    frame: Callable[[], Frame] | None
    """Asked where no map is kept; None where the picture is gone and only its maps are left."""
    class_name: str
    views: Views


@dataclass(frozen=True)
class Keeping:
    """What becomes of maps: where they are kept, and for how many epochs they are wanted."""

    codec: Codec | None = None
    """Every map goes through its 8 bits, so that it is the same whether it is kept or not."""
    maps: Maps = field(default_factory=Maps)
    last_epoch: int = 0
    """No later one is computed for beforehand."""
    ahead: Ahead = lambda: True


class LiveFeatures(FeatureSource):
    """Maps of pictures, each in the view that an epoch is to see.

    Where maps are kept, a picture that an epoch decodes is cut into the views of all epochs that
    are to come: to decode a phone's picture takes longer than to look at it.
    """

    def __init__(
        self,
        session: Session,
        size: Input,
        pictures: Callable[[int], KnownPicture],
        on_unreadable: OnUnreadable,
        micro_batch: int = 1,
        keeping: Keeping | None = None,
    ) -> None:
        """Allocate one micro-batch; nothing is read yet.

        `pictures` maps a row to its picture; it may raise UnreadablePicture.
        """
        self._keeping = Keeping() if keeping is None else keeping
        self._session = session
        self._size = size
        self._pictures = pictures
        self._on_unreadable = on_unreadable
        self._codec, self._maps = self._keeping.codec, self._keeping.maps
        self._images = np.empty((micro_batch, 3, size.resolution, size.resolution), np.float32)
        self._compared = 0

    def fill(self, rows: Sequence[int], epoch: int, out: Floats) -> list[int]:
        """Write the maps of the pictures `rows`, see FeatureSource; epoch 0 sees central crops."""
        written: list[int] = []
        waiting: list[_Waiting] = []
        for row in rows:
            place = len(written)
            try:
                picture = patiently(partial(self._pictures, row))
                view = picture.views.of(picture.identity, epoch)
                if self._stored(picture, view, out[place], self._images[len(waiting)]):
                    written.append(row)
                    continue
                wanted = [view, *self._wanted_later(picture, epoch)]
                crops = patiently(partial(self._cut, picture, wanted))
            except UnreadablePicture as error:
                self._on_unreadable(row, error.reason)
                continue
            written.append(row)
            for number, crop in zip(wanted, crops):
                if number != view and not self._keeping.ahead():
                    break
                normalise(crop, self._size, self._images[len(waiting)])
                waiting.append(_Waiting(picture, number, place if number == view else None))
                if len(waiting) == len(self._images):
                    self._run(waiting, out)
        self._run(waiting, out)
        return written

    def _wanted_later(self, picture: KnownPicture, epoch: int) -> list[int]:
        # Before the first epoch nobody knows yet how long a run will take, and whether it is to be.
        if epoch == 0 or self._codec is None or self._maps.cache is None:
            return []
        later = picture.views.later(picture.identity, epoch, self._keeping.last_epoch)
        return [number for number in later if not self._maps.has(picture.identity, number)]

    def _stored(self, picture: KnownPicture, view: int, out: Floats, image: Floats) -> bool:
        """Write a kept map to `out`, if there is one; `image` is overwritten."""
        if self._codec is None or not self._maps.read(picture.identity, view, out):
            return False
        if self._compared < COMPARED and self._maps.is_foreign(picture.identity, view):
            self._compare(picture, view, out, image)
        return True

    def _compare(self, picture: KnownPicture, view: int, found: Floats, image: Floats) -> None:
        """Compute a map that was found once more; raises BadState if it is another."""
        if picture.frame is None:
            return  # nothing is left to compute it from
        try:
            (crop,) = self._cut(picture, [view])
        except UnreadablePicture:
            return
        normalise(crop, self._size, image)
        self._compared += 1
        expected = self._session.features(image[None])[0]
        difference = float(np.sqrt(np.mean((expected - found) ** 2)))
        if not difference <= MOST_DIFFERENCE * float(np.sqrt(np.mean(expected**2))) + SMALLEST:
            where = printable(self._maps.place_of(picture.identity, view))
            name = printable(picture.frame().name)
            raise BadState(
                f"the feature maps in {where} are not those of these pictures: the one kept for "
                f"{name} differs from what the frozen layers give; remove that file, and train "
                "again"
            )

    def _cut(self, picture: KnownPicture, numbers: Sequence[int]) -> list[Image.Image]:
        if picture.frame is None:
            raise UnreadablePicture(picture.identity, "is gone, and its feature map is damaged")
        return cut_views(picture.frame(), self._size, picture.identity, numbers)

    def _run(self, waiting: list[_Waiting], out: Floats) -> None:
        """Move the pictures `waiting` in the micro-batch through the prefix to their places."""
        if not waiting:
            return
        maps = self._session.features(self._images[: len(waiting)])
        self.computed += len(waiting)
        for one, h in zip(waiting, maps):
            if self._codec is None:
                if one.place is not None:
                    out[one.place] = h
                continue
            content = self._codec.encode(h)
            if one.place is not None:
                self._codec.decode(content, out[one.place])
            picture = one.picture
            self._maps.add(picture.identity, one.view, picture.class_name, content)
        waiting.clear()


@dataclass(frozen=True)
class _Waiting:
    """A picture in the micro-batch, and the row of the result that its map goes to; None for a map
    that is computed for a later epoch.
    """

    picture: KnownPicture
    view: int
    place: int | None
