"""The best state while a card is spared: it lies in a file without a name until it is kept.

Nothing of it is forced to the disk, and no power cut leaves anything of it. Linux writes such a
file out once it is older than half a minute (vm.dirty_expire_centisecs), or when memory runs short;
what is replaced before that never reaches the card. The memory is the system's, not the process's.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.state_file import StateInfo, copy_state, write_state
from mobiletl.device.bundle.wear import count
from mobiletl.device.refusals import cannot_write

# Linux looks every five seconds for what is older than thirty.
WRITTEN_OUT_S = 30.0


class HeldState:
    """At most one state, and its size; the file is in the folder that the state is for."""

    def __init__(self, path: Path) -> None:
        """Hold nothing yet; `path` is the name that the state gets once it is kept."""
        self._path = path
        self._file: BinaryIO | None = None
        self._since = 0.0
        self.info: StateInfo | None = None
        """What is held, None where nothing is."""

    def hold(self, tensors: Tensors, info: StateInfo) -> None:
        """Hold a state in place of the former one; raises NoSpace."""
        self.drop()
        try:
            self._file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
            write_state(self._file, tensors, info)
            self._file.flush()
        except OSError as error:
            self.drop()
            raise cannot_write("the state", self._path, error, "choose another folder") from error
        self._since = time.monotonic()
        self.info = info

    def keep(self) -> None:
        """Give the state its name, durably, and hold nothing any more; raises NoSpace."""
        if self._file is not None:
            self._file.seek(0)
            copy_state(self._path, self._file)
        self.drop()

    def drop(self) -> None:
        """Hold nothing any more."""
        if self._file is not None:
            if time.monotonic() - self._since > WRITTEN_OUT_S:
                count(self._file.seek(0, 2))
            self._file.close()
        self._file, self.info = None, None
