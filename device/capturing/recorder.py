"""Frames of one stream on their way into a data set; who decides when is in the other files."""

from __future__ import annotations

import time
from typing import Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.cameras.stream import CameraStream
from mobiletl.device.capturing.looks import look_at
from mobiletl.device.capturing.photo_folder import PhotoFolder
from mobiletl.device.capturing.selection import Judgement, Rules, Selection


class Recorder:
    """Keeps frames of `stream` in `folder`; `counts` are the files that each class has."""

    def __init__(
        self, stream: CameraStream, folder: PhotoFolder, names: Sequence[str], rules: Rules
    ) -> None:
        """Look at what the classes `names` have already. Raises UsageError for a bad name."""
        for row, name in enumerate(names):
            folder.check_class(name, list(names[:row]))
        self.stream, self.folder, self._rules = stream, folder, rules
        self.counts: dict[str, int] = {name: folder.count(name) for name in names}
        self.kept = 0
        """Pictures that were kept by this recorder, of all classes."""
        self.seen = 0
        """Frames that were judged for a class."""
        self.black = 0
        """How many of them were black."""
        self._selections: dict[str, Selection] = {}

    def watch(self) -> None:
        """Read a frame and leave it: the camera is heard while nobody records."""
        self.stream.read()

    def record(self, name: str) -> Judgement:
        """Read a frame and keep it in class `name`, if it has what the rules ask for.

        Raises CameraEnded, CameraStopped, NoCamera and NoSpace.
        """
        if name not in self._selections:
            self._selections[name] = Selection(self.folder.smalls(name))
        selection = self._selections[name]
        frame = self.stream.read()
        pixels = _pixels_of(frame)
        look = look_at(pixels)
        judgement = selection.judge(look, self._rules)
        self.seen += 1
        self.black += judgement.black
        if judgement.kept:
            time_s = time.time() if frame.time_s is None else frame.time_s
            self.folder.keep(pixels, name, time_s, self._provenance(judgement))
            selection.add(look.small)
            self.counts[name] += 1
            self.kept += 1
        return judgement

    def _provenance(self, judgement: Judgement) -> dict[str, object]:
        apart = judgement.difference
        return {
            "camera": self.stream.name,
            "view": self.stream.view.document(),
            "sharpness": round(judgement.sharpness, 3),
            "difference": None if apart is None else round(apart, 3),
        }


def _pixels_of(frame: Frame) -> Pixels:
    pixels = frame.content
    assert isinstance(pixels, np.ndarray)  # a stream gives no files
    return pixels
