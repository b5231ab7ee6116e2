"""The folder of a run belongs to one process at a time, from before it is looked at."""

from __future__ import annotations

import contextlib
from types import TracebackType

from mobiletl.device.bundle.lock import locked
from mobiletl.device.bundle.replacing import remove_leftovers
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.checkpoints import RunFolder


class Claim:
    """Holds the lock of a run's folder, at once where there is one; a context manager.

    A folder that is not there yet is made by `take`, once everything else is settled: a wrong flag
    leaves no empty folder behind. What commands only read needs no claim.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self._held = contextlib.ExitStack()
        self._taken = False

    def __enter__(self) -> Claim:
        """Take the folder if it is there; raises InUse, NoSpace."""
        if self._folder.path.is_dir():
            self._lock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def take(self) -> None:
        """Make the folder and take it; raises InUse, NoSpace, and UsageError where another process
        has made it and left a run there meanwhile.
        """
        if self._taken:
            return
        path = self._folder.path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write("the run's folder", path, error) from error
        self._lock()
        if self._folder.holds_run():
            raise UsageError(
                f"another process has left a run in {printable(str(path))} just now; give the same "
                "command again, or choose another folder with --out"
            )

    def _lock(self) -> None:
        folder = self._folder
        shown = f"the run in {printable(str(folder.path))}"
        instead = "choose another folder with --out"
        self._held.enter_context(locked(folder.lock, shown, instead))
        self._taken = True
        # Those of the states are read where nothing better is there, and go with the next save.
        for file in (folder.metrics, folder.plot, folder.skipped):
            remove_leftovers(file)
