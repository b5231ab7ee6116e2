"""Let a file of this folder run as a script where `mobiletl` is not installed.

A bundle carries this folder, so `python device/train_on_board.py` must work on a board that
has nothing but the runtime. A command starts with

    if not __package__:
        import importlib

        importlib.import_module("_script").register()

and from then on imports `mobiletl.device.<module>` as if it were installed. Where it is installed
too, the folder of the script wins: a bundle runs the code it was shipped with.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parent


def register() -> None:
    """Make this folder importable as `mobiletl.device`, and as nothing else."""
    # Python puts a script's folder first on the path, where `service.py` or `predict.py`
    # would shadow any library of that name.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    parent = ModuleType("mobiletl")
    parent.__path__ = []
    spec = importlib.util.spec_from_file_location(
        "mobiletl.device", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["mobiletl"] = parent
    sys.modules["mobiletl.device"] = package
    vars(parent)["device"] = package
    spec.loader.exec_module(package)
