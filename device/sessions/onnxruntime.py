"""The three functions on stock onnxruntime (1.16 to 1.31), with the state updated in place.

Letters as in `session.py`. The state lives in NumPy arrays owned here. A step binds each entry's
memory both as the input `<entry>` and as the output `<entry>.next`, which `docs/bundle.md` allows:
a second copy of the state never exists.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import BELOW, Manifest
from mobiletl.device.bundle.manifest_schema import MOST_MAP_VALUES
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency
from mobiletl.device.printable import one_line
from mobiletl.device.sessions.arena import share_arena
from mobiletl.device.sessions.freed import return_all
from mobiletl.device.sessions.session import (
    Embedded,
    Session,
    StepResult,
    overwrite,
    read_only,
)
from mobiletl.device.sessions.table import STOCK, known_runtime

LOG_ERRORS_ONLY = 3
NEXT = ".next"

Arrays = Dict[str, Any]


# What is run as it is. Optimising rewrites and reorders: in the step that keeps floats alive that
# the exporter packed into masks; in predict it scales the weights of every layer before the first
# one runs. The files of the frozen layers are chains of constants, with nothing to bring forward.
AS_WRITTEN = ("train_step", "predict")


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int, activations: int = 0
) -> OnnxRuntimeSession:
    """Open a session on `threads` threads; raises MissingDependency without onnxruntime."""
    onnxruntime = _import()
    share_arena(onnxruntime, activations)
    files = bundle.manifest.runtimes["onnxruntime"]
    names = (*files.chain, *AS_WRITTEN)
    paths = {name: bundle.file(files.files[name]) for name in names}
    return OnnxRuntimeSession(onnxruntime, bundle.manifest, paths, classes, state, threads)


class OnnxRuntimeSession(Session):
    """Each function is loaded when it is first called, so predicting never loads the step."""

    def __init__(
        self,
        onnxruntime: ModuleType,
        manifest: Manifest,
        paths: dict[str, Path],
        classes: int,
        state: Tensors,
        threads: int,
    ) -> None:
        self._onnxruntime = onnxruntime
        self._paths = paths
        self._chain = tuple(name for name in paths if name not in AS_WRITTEN)
        self._names = _expected_names(manifest, self._chain)
        self._feature_shape = manifest.feature.shape
        self._embedding_size = manifest.embedding.size
        self._classes = classes
        self._threads = threads
        self._state = {
            entry.name: np.array(state[entry.name], np.float32, order="C")
            for entry in manifest.state
        }
        self._updated = {name + NEXT: tensor for name, tensor in self._state.items()}
        self._loss = np.zeros((), np.float32)
        self._correct = np.zeros((), np.int64)
        self._functions: dict[str, _Function] = {}

    def features(self, images: Floats) -> Floats:
        """See Session; of the maps between files only the one that is read is held."""
        given, x = "images", _own(images, np.float32)
        for name in self._chain:
            last = name == self._chain[-1]
            shape = self._feature_shape if last else self._function(name).map_shape()
            h = np.empty((len(images), *shape), np.float32)
            self._function(name).run({given: x}, {"h": h})
            given, x = BELOW, h
        return h

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """See Session."""
        batch: Arrays = {
            "h": _own(h, np.float32),
            "labels": _own(labels, np.int64),
            "lr": np.array(lr, np.float32),
        }
        results: Arrays = {"loss": self._loss, "correct": self._correct}
        self._function("train_step").run({**self._state, **batch}, {**self._updated, **results})
        return StepResult(float(self._loss), int(self._correct))

    def embed(self, h: Floats) -> Embedded:
        """See Session."""
        embeddings = np.empty((len(h), self._embedding_size), np.float32)
        return Embedded(self._predict(h, {"embedding": embeddings}), embeddings)

    def predict(self, h: Floats) -> Floats:
        """See Session; what is not asked for takes no memory."""
        return self._predict(h, {})

    def _predict(self, h: Floats, others: Arrays) -> Floats:
        logits = np.empty((len(h), self._classes), np.float32)
        inputs = {**self._state, "h": _own(h, np.float32)}
        self._function("predict").run(inputs, {"logits": logits, **others})
        return logits

    def state(self) -> Tensors:
        """See Session."""
        return read_only(self._state)

    def load(self, state: Mapping[str, Floats]) -> None:
        """See Session."""
        overwrite(self._state, state)

    def close(self) -> None:
        """See Session."""
        self._functions.clear()
        self._state.clear()
        self._updated.clear()
        return_all()

    def _function(self, name: str) -> _Function:
        if name not in self._functions:
            self._functions[name] = _load(
                self._onnxruntime,
                self._paths[name],
                name not in AS_WRITTEN,
                self._names[name],
                self._threads,
            )
        return self._functions[name]


@dataclass(frozen=True)
class _Names:
    """The names a graph may read and must write, by the manifest."""

    inputs: set[str]
    outputs: set[str]


class _Function:
    """A loaded graph that reads and writes the memory it is given and allocates no results."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session = session
        self._path = path
        self._inputs = [node.name for node in session.get_inputs()]
        self._binding = session.io_binding()
        # Two threads may be in two functions, and not in one: its tensors would be there twice.
        self._alone = threading.Lock()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run on C-contiguous arrays; inputs that the graph does not declare are left out."""
        with self._alone:
            self._run(inputs, outputs)

    def map_shape(self) -> tuple[int, ...]:
        """Return C, h and w of the map [N,C,h,w] that the graph says it gives; raises BadBundle."""
        shape = self._session.get_outputs()[0].shape
        sides = tuple(side for side in shape[1:] if isinstance(side, int) and side > 0)
        if len(shape) != 4 or len(sides) != 3 or math.prod(sides) > MOST_MAP_VALUES:
            raise BadBundle(
                f"{self._path} gives a map of {shape}, expected [N, C, h, w]; export the bundle "
                "again"
            )
        return sides

    def _run(self, inputs: Arrays, outputs: Arrays) -> None:
        try:
            for name in self._inputs:
                self._binding.bind_input(*_memory(name, inputs[name]))
            # An output of the call before would be written to memory that is no longer ours.
            self._binding.clear_binding_outputs()
            for name, array in outputs.items():
                self._binding.bind_output(*_memory(name, array))
            self._session.run_with_iobinding(self._binding)
        # onnxruntime's exceptions have no base class of their own.
        except Exception as error:
            raise InternalError(
                f"{self._path.name} failed in onnxruntime ({one_line(error)}); try a smaller "
                "--batch if memory is short, otherwise please report this"
            ) from error


def _memory(name: str, array: Any) -> Any:
    """Return what binds `name` to the memory of `array`."""
    return name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data


def _own(array: Any, dtype: Any) -> Any:
    """Return `array` as C-contiguous memory of `dtype`, copied only where needed."""
    return np.asarray(array, dtype, order="C")


def _load(
    onnxruntime: ModuleType, path: Path, optimised: bool, names: _Names, threads: int
) -> _Function:
    options = session_options(onnxruntime, optimised, threads)
    # Loading runs much code once, and what was imported and used until now is not needed for it.
    return_all()
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise BadBundle(
            f"onnxruntime {onnxruntime.__version__} cannot load {path} ({one_line(error)}); "
            "the file is as exported, so try a newer onnxruntime or export the bundle again"
        ) from error
    _check_names(path, session, names)
    # What parsing and planning took is free again, but scattered.
    return_all()
    return _Function(session, path)


def session_options(onnxruntime: ModuleType, optimised: bool, threads: int) -> Any:
    """Return how onnxruntime runs one function; its tensors come from the shared arena."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Despite its name this is the order of the file; the default order goes backwards from outputs.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = True
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A pattern allocates for the largest run at once. Reuse keeps a dead tensor's memory for a
    # later one of its size, through all the nodes between: 28 MB where 18 are alive. (Writing over
    # an operand that dies is another thing, and stays.)
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    options.intra_op_num_threads = threads
    # Each function has threads of its own. Those that go on spinning after a run take the cores
    # from the function that comes next: 60 pictures a second where 110 are possible (MobileNetV2
    # at 224 px, two cores). Within a run they may: a step has hundreds of short nodes.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS_ONLY
    return options


def _expected_names(manifest: Manifest, chain: Sequence[str]) -> dict[str, _Names]:
    entries = [entry.name for entry in manifest.state]
    lasting = {entry.name for entry in manifest.state if entry.role != "slot"}
    return {
        **{name: _Names({BELOW}, {"h"}) for name in chain},
        chain[0]: _Names({"images"}, {"h"}),
        "train_step": _Names(
            {*entries, "h", "labels", "lr"}, {*(name + NEXT for name in entries), "loss", "correct"}
        ),
        "predict": _Names({*lasting, "h"}, {"logits", "embedding"}),
    }


def _check_names(path: Path, session: Any, names: _Names) -> None:
    """Refuse a graph that reads what we cannot give, or does not write exactly what we expect."""
    unknown = {node.name for node in session.get_inputs()} - names.inputs
    outputs = {node.name for node in session.get_outputs()}
    if unknown or outputs != names.outputs:
        raise BadBundle(
            f"{path} does not fit the manifest: unknown inputs {sorted(unknown)}, "
            f"missing outputs {sorted(names.outputs - outputs)}, "
            f"unknown outputs {sorted(outputs - names.outputs)}; export the bundle again"
        )


def _import() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        install = known_runtime(STOCK).install
        raise MissingDependency(
            f"onnxruntime cannot be imported ({error}); install it with {install}"
        ) from error
    module: ModuleType = onnxruntime
    module.set_default_logger_severity(LOG_ERRORS_ONLY)
    return module
