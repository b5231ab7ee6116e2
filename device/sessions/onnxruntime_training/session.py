"""The three functions on onnxruntime-training 1.19.2, through its official API.

Letters as in `session.py`. Its `CheckpointState` owns the state. It can be filled from a file only,
so the exported checkpoint is written anew with the state to start from, and the state is read back
from a checkpoint that the runtime saves. That is also why any K is possible.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency
from mobiletl.device.printable import one_line
from mobiletl.device.sessions.arena import share_arena
from mobiletl.device.sessions.freed import return_all, return_early, return_freed
from mobiletl.device.sessions.onnxruntime_training.checkpoint import (
    change_checkpoint,
    mapped,
    read_checkpoint,
)
from mobiletl.device.sessions.onnxruntime_training.slots import Slots
from mobiletl.device.sessions.session import (
    Embedded,
    Session,
    StepResult,
    check_form,
    read_only,
)
from mobiletl.device.sessions.table import known_runtime

NAME = "onnxruntime-training"
LOG_ERRORS_ONLY = 3
TRAINING = "training_model"


def open_session(
    bundle: Bundle, classes: int, state: Tensors, threads: int, activations: int = 0
) -> Session:
    """Open a session on `threads` threads; MissingDependency without the package or PyTorch,
    BadBundle if a file does not load or the checkpoint belongs to another model.
    """
    # Each load and save frees buffers as large as the state, which a heap would keep in pieces:
    # peaks of one and the same run lay 13 MB apart.
    return_early()
    api = _import()
    share_arena(api.runtime, activations)
    paths = {role: bundle.file(path) for role, path in bundle.manifest.runtimes[NAME].files.items()}
    return OnnxRuntimeTrainingSession(api, bundle.manifest, paths, state, threads)


@dataclass(frozen=True)
class Api:
    """The modules `onnxruntime` and `onnxruntime.training.api`."""

    runtime: Any
    training: Any


class OnnxRuntimeTrainingSession(Session):
    """Module, optimizer and checkpoint; the frozen prefix is loaded when it is first called."""

    def __init__(
        self, api: Api, manifest: Manifest, paths: dict[str, Path], state: Tensors, threads: int
    ) -> None:
        self._api = api
        self._paths = paths
        self._threads = threads
        self._prefix: Any = None
        self._slots = _slots(self._checkpoint(paths["checkpoint"]), manifest, paths)
        return_all()
        self._start(state)

    def _start(self, state: Tensors) -> None:
        """Set up module and optimizer; their moments can be given in a file only."""
        api, paths, exported = self._api, self._paths, self._paths["checkpoint"]
        # Names, shapes and types, without memory of their own.
        self._form = {
            name: np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
            for name, tensor in state.items()
        }
        with tempfile.TemporaryDirectory(prefix="mobiletl-") as scratch:
            start = Path(scratch, "checkpoint")
            shutil.copyfile(exported, start)
            change_checkpoint(start, self._slots.to_runtime(state))
            self._state = self._checkpoint(start)
        try:
            self._module = api.training.Module(
                str(paths[TRAINING]),
                self._state,
                str(paths["eval_model"]),
                session_options=_step_options(api.runtime, self._threads),
            )
            self._optimizer = api.training.Optimizer(str(paths["optimizer_model"]), self._module)
        # onnxruntime's exceptions have no base class of their own.
        except Exception as error:
            raise _unloadable(paths[TRAINING].parent, error) from error
        return_all()

    def features(self, images: Floats) -> Floats:
        """See Session."""
        if self._prefix is None:
            self._prefix = self._load_prefix()
        rows = [self._run(self._prefix.run, ["h"], {"images": image[None]})[0] for image in images]
        maps: Floats = np.concatenate(rows)
        return maps

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        """See Session."""
        self._module.train()
        self._optimizer.set_learning_rate(lr)
        loss, correct = self._run(self._module, *_batch(h, labels))
        self._run(self._optimizer.step)
        self._module.lazy_reset_grad()
        return StepResult(float(loss), int(correct))

    def embed(self, h: Floats) -> Embedded:
        """See Session."""
        self._module.eval()
        labels = np.zeros(len(h), np.int64)  # for the loss alone
        _, logits, embeddings = self._run(self._module, *_batch(h, labels))
        return Embedded(logits, embeddings)

    def state(self) -> Tensors:
        """See Session; here it is a copy, because moments can be had from a file only."""
        with tempfile.TemporaryDirectory(prefix="mobiletl-") as scratch:
            file = Path(scratch, "checkpoint")
            save = self._api.training.CheckpointState.save_checkpoint
            self._run(save, self._state, str(file), include_optimizer_state=True)
            return_freed()  # the runtime has put all of the file together in memory
            return read_only(self._slots.to_state(read_checkpoint(mapped(file))))

    def load(self, state: Mapping[str, Floats]) -> None:
        """See Session; here module and optimizer are set up anew."""
        check_form(self._form, state)
        # What is there now goes first, so that it is never there twice.
        self._module = self._optimizer = self._state = None
        return_all()
        self._start(dict(state))

    def close(self) -> None:
        """See Session."""
        self._prefix = self._module = self._optimizer = self._state = None

    def _checkpoint(self, path: Path) -> Any:
        try:
            return self._api.training.CheckpointState.load_checkpoint(str(path))
        except Exception as error:
            raise _unloadable(path, error) from error

    def _load_prefix(self) -> Any:
        runtime, path = self._api.runtime, self._paths["features"]
        options = _options(runtime, self._threads)
        try:
            return runtime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise _unloadable(path, error) from error

    def _run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            raise InternalError(
                f"a step failed in onnxruntime-training ({one_line(error)}); try a smaller "
                "--batch if memory is short, otherwise please report this"
            ) from error


def _batch(h: Floats, labels: Labels) -> tuple[Floats, Labels]:
    return np.ascontiguousarray(h, np.float32), np.ascontiguousarray(labels, np.int64)


def _slots(checkpoint: Any, manifest: Manifest, paths: dict[str, Path]) -> Slots:
    """How the state maps; raises BadBundle if the checkpoint is of another training model."""
    properties = dict(checkpoint.properties)
    path = f"{paths[TRAINING].parent.name}/{paths[TRAINING].name}"
    expected, found = manifest.files[path].sha256, properties.get("mobiletl.training_model")
    if found != expected:
        raise BadBundle(
            f"{paths['checkpoint']} is the checkpoint of another model (its training model has "
            f"SHA-256 {str(found)[:12]}, expected {expected[:12]}); copy the bundle again"
        )
    units, betas = (
        tuple(float(number) for number in properties[f"mobiletl.{name}"].split())
        for name in ("moment_units", "betas")
    )
    return Slots(manifest.state, units, betas)


def _step_options(runtime: Any, threads: int) -> Any:
    """File order and no reuse, as on stock onnxruntime: 23 MB in a step instead of 30, as fast."""
    options = _options(runtime, threads)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    return options


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = LOG_ERRORS_ONLY
    # Threads of prefix and step would wait for one another (device/sessions/onnxruntime.py).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _import() -> Api:
    try:
        import onnxruntime
        from onnxruntime.training import api
    except ImportError as error:
        raise MissingDependency(
            f"onnxruntime.training.api cannot be imported ({one_line(error)}); install it with "
            f"{known_runtime(NAME).install}"
        ) from error
    onnxruntime.set_default_logger_severity(LOG_ERRORS_ONLY)
    return Api(onnxruntime, api)


def _unloadable(path: Path, error: Exception) -> BadBundle:
    return BadBundle(
        f"onnxruntime-training cannot load {path} ({one_line(error)}); the file is as exported, "
        f"so check the version ({known_runtime(NAME).install}) or export the bundle again"
    )
