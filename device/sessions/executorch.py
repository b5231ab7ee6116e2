"""The three functions in ExecuTorch, from one program of static N and K.

Letters as in `session.py`. The state lives in NumPy arrays owned here; the program reads a step's
inputs where they are and writes the new state over the old one (docs/executorch.md). `features`
and `predict` take one picture a time, so any number of them is a loop.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency, UsageError
from mobiletl.device.printable import one_line
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.sessions.session import (
    Embedded,
    Session,
    StepResult,
    overwrite,
    read_only,
)
from mobiletl.device.sessions.table import known_runtime

NAME = "executorch"
METHODS = ("features", "train_step", "predict")
STDERR = 2


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int, activations: int = 0
) -> ExecuTorchSession:
    """Open a session on `threads` threads; raises MissingDependency without executorch."""
    del activations  # the program plans its own arena
    runtime = bundle.manifest.runtimes[NAME]
    path = bundle.file(runtime.files["program"])
    assert runtime.batch is not None
    return ExecuTorchSession(bundle.manifest, path, runtime.batch, classes, state, threads)


class ExecuTorchSession(Session):
    """Each method is loaded when it is first called; all of them share one arena."""

    def __init__(
        self,
        manifest: Manifest,
        path: Path,
        batch: int,
        classes: int,
        state: Tensors,
        threads: int,
    ) -> None:
        self.batch = batch
        self._torch, library = _import(threads)
        self._path = path
        self._program = _load(library, path)
        self._methods: dict[str, Any] = {}
        self._feature_shape = manifest.feature.shape
        self._embedding_size = manifest.embedding.size
        self._classes = classes
        self._state = {
            entry.name: np.array(state[entry.name], np.float32, order="C")
            for entry in manifest.state
        }
        lasting = [entry.name for entry in manifest.state if entry.role != "slot"]
        self._all = [self._tensor(array) for array in self._state.values()]
        self._lasting = [self._tensor(self._state[name]) for name in lasting]

    def features(self, images: Floats) -> Floats:
        """See Session."""
        h = np.empty((len(images), *self._feature_shape), np.float32)
        for row in range(len(images)):
            h[row] = self._run("features", [self._tensor(images[row : row + 1])])[0][0]
        return h

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """See Session; raises UsageError for another N than the exported one."""
        if len(h) != self.batch:
            raise UsageError(
                f"{self._path} takes batches of {self.batch} pictures, found {len(h)}; train with "
                f"--batch {self.batch}, or export it again for {len(h)} (make export BATCH=...)"
            )
        batch = [self._tensor(h), self._tensor(labels, np.int64), self._tensor(lr)]
        loss, correct = self._run("train_step", [*self._all, *batch])
        return StepResult(float(loss), int(correct))

    def embed(self, h: Floats) -> Embedded:
        """See Session."""
        logits = np.empty((len(h), self._classes), np.float32)
        embeddings = np.empty((len(h), self._embedding_size), np.float32)
        for row in range(len(h)):
            inputs = [*self._lasting, self._tensor(h[row : row + 1])]
            found, embedding = self._run("predict", inputs)
            logits[row], embeddings[row] = found[0], embedding[0]
        return Embedded(logits, embeddings)

    def state(self) -> Tensors:
        """See Session."""
        return read_only(self._state)

    def load(self, state: Mapping[str, Floats]) -> None:
        """See Session."""
        overwrite(self._state, state)

    def close(self) -> None:
        """See Session."""
        self._methods.clear()
        self._program = None
        self._all.clear()
        self._lasting.clear()
        self._state.clear()
        return_all()

    def _tensor(self, array: Any, dtype: Any = np.float32) -> Any:
        """Return a tensor over the memory of `array`, copied only where it must be."""
        own = np.require(array, dtype, ["C", "W"])
        return self._torch.from_numpy(own)

    def _run(self, name: str, inputs: list[Any]) -> list[Any]:
        try:
            if name not in self._methods:
                self._methods[name] = self._program.load_method(name)
            # The results are read before the next call, so they may stay in the arena.
            results: list[Any] = self._methods[name](inputs, clone_outputs=False)
        # The library raises RuntimeError for everything, its code in the text.
        except RuntimeError as error:
            raise InternalError(
                f"{name} of {self._path.name} failed in executorch ({one_line(error)}); "
                "please report this"
            ) from error
        return [result.numpy() for result in results]


def _load(library: ModuleType, path: Path) -> Any:
    try:
        program = library._load_program(str(path))
        found = {program.get_method_name(index) for index in range(program.num_methods())}
    except RuntimeError as error:
        raise BadBundle(
            f"executorch cannot load {path} ({one_line(error)}); the file is as exported, so try "
            f"the version it was exported with: {known_runtime(NAME).install}"
        ) from error
    if not found.issuperset(METHODS):
        raise BadBundle(
            f"{path} has the methods {sorted(found)}, expected {list(METHODS)}; "
            "export the bundle again"
        )
    return program


def _import(threads: int) -> tuple[ModuleType, ModuleType]:
    """Return (torch, the runtime's extension module).

    The extension itself, not `executorch.runtime`: that name imports the exporter as well, 130 MB
    and several seconds of it.
    """
    try:
        import torch
        from executorch.extension.pybindings import _C
    except ImportError as error:
        install = known_runtime(NAME).install
        raise MissingDependency(
            f"executorch cannot be imported ({error}); install it with {install}"
        ) from error
    torch.set_num_threads(threads)
    with _without_log():
        _C._unsafe_reset_threadpool(threads)
    library: ModuleType = _C
    return torch, library


@contextmanager
def _without_log() -> Iterator[None]:
    """Hide what the library says about processors it does not know; it writes past `sys.stderr`."""
    kept = os.dup(STDERR)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
