"""mobiletl fine-tunes pretrained image networks on small boards, in the memory it states.

This is what a program may rely on (docs/python.md). Everything else may move between releases.
Names are loaded when they are first asked for, so that `import mobiletl` costs nothing and no part
of the package loads another by accident.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What it sets holds for all that imports onnxruntime later, exporting too.
import mobiletl.device as _device  # noqa: F401

if TYPE_CHECKING:
    from mobiletl.device.bundle.bundle import Bundle, open_bundle
    from mobiletl.device.bundle.decode import UnreadablePicture
    from mobiletl.device.bundle.frame import Frame
    from mobiletl.device.bundle.prepare import prepare
    from mobiletl.device.bundle.state_file import StateInfo, load_state
    from mobiletl.device.errors import MobileTLError
    from mobiletl.device.neighbour.changes import Continued, Paused
    from mobiletl.device.prediction.predictor import Prediction, Predictor, open_predictor
    from mobiletl.device.run.events import Ended, Epoch, Event, Note, Part, Saved, Started, Step
    from mobiletl.device.run.library import train
    from mobiletl.device.run.listener import Listener
    from mobiletl.device.run.options import Former, Outcome
    from mobiletl.device.run.start import Start, state_start
    from mobiletl.device.run.stop import StopFlag, StopRequested
    from mobiletl.device.teaching.teacher import Teacher

__all__ = [
    "Bundle",
    "Continued",
    "Ended",
    "Epoch",
    "Event",
    "Former",
    "Frame",
    "Listener",
    "MobileTLError",
    "Note",
    "Outcome",
    "Part",
    "Paused",
    "Prediction",
    "Predictor",
    "Saved",
    "Start",
    "Started",
    "StateInfo",
    "Step",
    "StopFlag",
    "StopRequested",
    "Teacher",
    "UnreadablePicture",
    "load_state",
    "open_bundle",
    "open_predictor",
    "prepare",
    "state_start",
    "train",
]

_HOMES = {
    "mobiletl.device.bundle.bundle": ("Bundle", "open_bundle"),
    "mobiletl.device.bundle.decode": ("UnreadablePicture",),
    "mobiletl.device.bundle.frame": ("Frame",),
    "mobiletl.device.bundle.prepare": ("prepare",),
    "mobiletl.device.bundle.state_file": ("StateInfo", "load_state"),
    "mobiletl.device.errors": ("MobileTLError",),
    "mobiletl.device.neighbour.changes": ("Continued", "Paused"),
    "mobiletl.device.prediction.predictor": ("Prediction", "Predictor", "open_predictor"),
    "mobiletl.device.run.events": (
        "Ended",
        "Epoch",
        "Event",
        "Note",
        "Part",
        "Saved",
        "Started",
        "Step",
    ),
    "mobiletl.device.run.library": ("train",),
    "mobiletl.device.run.listener": ("Listener",),
    "mobiletl.device.run.options": ("Former", "Outcome"),
    "mobiletl.device.run.start": ("Start", "state_start"),
    "mobiletl.device.run.stop": ("StopFlag", "StopRequested"),
    "mobiletl.device.teaching.teacher": ("Teacher",),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for; Python calls this for names that are not here yet."""
    for module, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
