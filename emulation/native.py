"""No emulation: another Python and another onnxruntime on this machine's own processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation.host import cache_folder, locked
from emulation.machine import requirements


@dataclass(frozen=True)
class Native:
    """A virtual environment of `python` (as "3.9") with one release of onnxruntime, cached."""

    python: str
    onnxruntime: str

    @property
    def folder(self) -> Path:
        """Where the environment lies."""
        return cache_folder() / f"native-python-{self.python}-onnxruntime-{self.onnxruntime}"

    def objection(self) -> str:
        """Why it can't be tried here; empty where it can."""
        return "" if _interpreter(self.python) else f"no python{self.python} here"

    def install(self, wheel: Path) -> None:
        """Make the environment, or take it from the cache, and install `wheel`."""
        pip = [str(self.folder / "bin/pip"), "--disable-pip-version-check", "install", "--quiet"]
        complete = self.folder / "installed"
        with locked(self.folder.with_name(f"{self.folder.name}.lock")):
            if not complete.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                python = _interpreter(self.python)
                subprocess.run([python, "-m", "venv", str(self.folder)], check=True)
                wanted = requirements(self.onnxruntime)
                subprocess.run([*pip, *wanted, str(wheel)], check=True)
                complete.touch()
            subprocess.run([*pip, "--no-deps", "--force-reinstall", str(wheel)], check=True)

    def run(
        self, shared: Path, command: Sequence[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As engine.Installed; the shared folder is where it is."""
        program, *arguments = command
        local = [word.replace("/shared", str(shared)) for word in arguments]
        return subprocess.run(
            [str(self.folder / "bin" / program), *local],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def _interpreter(python: str) -> str:
    """The path of a Python `python` that runs, on PATH or among pyenv's; empty without one.

    A name on PATH is not enough: pyenv's shims exist for versions that are not switched on.
    """
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    among_pyenv = sorted(versions.glob(f"{python}.*/bin/python3"), reverse=True)
    for candidate in (f"python{python}", *map(str, among_pyenv)):
        path = shutil.which(candidate)
        if path is None:
            continue
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return ""
