"""The three functions in TorchScript (PyTorch 1.13 and newer), with the state updated in place.

Letters as in `session.py`. The state lives in NumPy arrays owned here, and PyTorch's tensors are
views of them: `train_step.ts` writes the new state over the old one, so there is no second copy.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency
from mobiletl.device.sessions.session import (
    Embedded,
    Session,
    StepResult,
    overwrite,
    read_only,
)
from mobiletl.device.sessions.table import known_runtime

RUNTIME = "torchscript"
FUNCTIONS = ("features", "train_step", "predict")


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int, activations: int = 0
) -> TorchScriptSession:
    """Open a session on `threads` threads, which is a setting of the whole process in PyTorch.

    `classes` is in the state's shapes already, and PyTorch asks malloc for every tensor. Raises
    MissingDependency without PyTorch.
    """
    del classes, activations
    files = bundle.manifest.runtimes[RUNTIME].files
    paths = {name: bundle.file(files[name]) for name in FUNCTIONS}
    torch = _import()
    torch.set_num_threads(threads)
    return TorchScriptSession(torch, bundle.manifest, paths, state)


class TorchScriptSession(Session):
    """Each function is loaded when it is first called, so predicting never loads the step."""

    def __init__(
        self, torch: ModuleType, manifest: Manifest, paths: dict[str, Path], state: Tensors
    ) -> None:
        self._torch = torch
        self._paths = paths
        self._state = {
            entry.name: np.array(state[entry.name], np.float32, order="C")
            for entry in manifest.state
        }
        tensors = {name: torch.from_numpy(array) for name, array in self._state.items()}
        self._entries = list(tensors.values())
        self._lasting = [tensors[e.name] for e in manifest.state if e.role != "slot"]
        self._functions: dict[str, Any] = {}

    def features(self, images: Floats) -> Floats:
        """See Session."""
        h: Floats = self._run("features", self._tensor(images, np.float32)).numpy()
        return h

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """See Session."""
        loss, correct, _ = self._run(
            "train_step",
            self._entries,
            self._tensor(h, np.float32),
            self._tensor(labels, np.int64),
            self._torch.tensor(lr, dtype=self._torch.float32),
        )
        return StepResult(float(loss), int(correct))

    def embed(self, h: Floats) -> Embedded:
        """See Session."""
        logits, embedding = self._run("predict", self._lasting, self._tensor(h, np.float32))
        return Embedded(logits.numpy(), embedding.numpy())

    def state(self) -> Tensors:
        """See Session."""
        return read_only(self._state)

    def load(self, state: Mapping[str, Floats]) -> None:
        """See Session."""
        overwrite(self._state, state)

    def close(self) -> None:
        """See Session."""
        self._functions.clear()
        self._entries.clear()
        self._lasting.clear()
        self._state.clear()

    def _tensor(self, array: Any, dtype: Any) -> Any:
        """Return a tensor over the memory of `array`, copied only where type or layout need it.

        PyTorch warns of memory that it must not write to, so a read-only array is copied, too.
        """
        return self._torch.from_numpy(np.require(array, dtype, ["C", "W"]))

    def _run(self, name: str, *arguments: Any) -> Any:
        if name not in self._functions:
            self._functions[name] = _load(self._torch, self._paths[name])
        try:
            with self._torch.no_grad():
                return self._functions[name](*arguments)
        # TorchScript's errors are RuntimeErrors, its type checks' as well.
        except RuntimeError as error:
            raise InternalError(
                f"{self._paths[name].name} failed in PyTorch ({_last_line(error)}); try a smaller "
                "--batch if memory is short, otherwise please report this"
            ) from error


def _load(torch: ModuleType, path: Path) -> Any:
    try:
        with _deprecation_accepted():
            return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise BadBundle(
            f"PyTorch {torch.__version__} cannot load {path} ({_last_line(error)}); the file is as "
            "exported, so try a newer PyTorch (1.13 at least) or export the bundle again"
        ) from error


@contextmanager
def _deprecation_accepted() -> Iterator[None]:
    """New releases call `torch.jit` deprecated; the old ones on boards have nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield


def _import() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        install = known_runtime(RUNTIME).install
        raise MissingDependency(
            f"PyTorch cannot be imported ({error}); install it with {install}, or train "
            "with --runtime onnxruntime"
        ) from error
    module: ModuleType = torch
    return module


def _last_line(error: Exception) -> str:
    """Return what went wrong; PyTorch puts it last, below a trace of the program."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
