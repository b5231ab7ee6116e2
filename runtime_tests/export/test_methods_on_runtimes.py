"""Every method on every runtime, against stock onnxruntime on the same bundle.

A new row of either table is tested by being there. What stock onnxruntime computes is held against
autograd in test_methods_on_backbones.py. After one step every state tensor is compared, ||a - b||
over ||b||; momentum starts at zero, so that its slots are the gradients. Before the export, what
methods start at zero gets numbers, and shifts move clear of the kinks of activations
(`runtime_tests/support/kinks.py`).

The network has the layers of all backbones in two blocks: larger ones are slow to export.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from mobiletl.core.methods import METHODS, Method, Reach
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.export.lowering.onnx_training.order import PACKS
from mobiletl.export.own_network import find_network
from mobiletl.export.parts import Parts
from mobiletl.export.runtimes import RUNTIMES
from mobiletl.export.writing import export_bundle as pipeline
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.export import test_methods_on_backbones as backbones
from runtime_tests.export.lowering.test_onnxruntime_training import constants
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.exported_bundles import invented_pictures
from runtime_tests.support.kinks import clear_of_kinks
from runtime_tests.support.steps_on_runtime import take_steps
from runtime_tests.support.training_env import OFFICIAL, needs_training_env, run_in_training_env

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = f"{REPOSITORY / 'runtime_tests' / 'support' / 'small_irb_network.py'}:build"
STOCK, TRAINING, EXECUTORCH = "onnxruntime", "onnxruntime-training", "executorch"
WORKER = REPOSITORY / "runtime_tests" / "support" / "steps_on_runtime.py"
RESOLUTION, BATCH, CLASSES, BLOCKS, STEPS, LR = 32, 4, 4, 1, 3, 0.01

FEATURES, ONE_STEP, THREE_STEPS = 1e-5, 1e-5, 1e-4
# A shift whose gradient is this small beside that of the same norm's scale is read by norms over
# the batch alone, which subtract it again: what is computed is rounding.
UNREAD = 1e-4
# Its arena and the plan of the stock step count the same tensors, other layouts of some.
ARENA = 1.5
# Tensors of a few bytes take 16 there: a step of the classifier alone has 0.6 kB of tensors.
ALIGNMENT = 1024
# Their programs have side modules of both kinds, group norm, resizes, pooling and bits.
ON_EXECUTORCH = ("tinytl-lb", "repnet-bias")
# The others take longer to export.
FAST = ("mobiletl",)
every_program = pytest.mark.skipif(
    "MOBILETL_EVERY_PROGRAM" not in os.environ,
    reason="a program takes a minute to export; MOBILETL_EVERY_PROGRAM=1 runs all of them",
)


@dataclass(frozen=True)
class Made:
    """A bundle, a batch with the state to start from, and what stock onnxruntime makes of it."""

    bundle: Bundle
    given: dict[str, Any]
    stock: dict[str, Any]


_MADE: dict[tuple[str, bool, str | None], Made] = {}


def in_tiers() -> list[Any]:
    """All methods; those that take long to export are in the slow tier."""
    return [
        pytest.param(
            method, id=method.name, marks=[] if method.name in FAST else [pytest.mark.slow]
        )
        for method in METHODS
    ]


def cases() -> Iterator[Any]:
    """(method, runtime) for all of both tables but the runtime that is compared with."""
    for runtime in [row.name for row in RUNTIMES if row.name != STOCK]:
        for method in METHODS:
            marks = [needs_training_env, pytest.mark.slow] if runtime == TRAINING else []
            if runtime == EXECUTORCH:
                listed = method.name in ON_EXECUTORCH
                marks = [pytest.mark.slow] if listed else [pytest.mark.slow, every_program]
            elif method.name not in FAST:
                marks.append(pytest.mark.slow)
            yield pytest.param(method, runtime, marks=marks, id=f"{method.name}-{runtime}")


@pytest.mark.parametrize(("method", "runtime"), list(cases()))
def test_trains_as_on_stock_onnxruntime(
    method: Method, runtime: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    compare(method, runtime, tmp_path_factory)


@needs_training_env
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_official_api_leaves_frozen_constants_as_they_were(
    method: Method, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bit for bit, in the whole graph, with the package's own session options."""
    it = made(method, False, tmp_path_factory)
    np.savez(tmp_path / "given.npz", **it.given)
    files = it.bundle.path / TRAINING
    losses, inference = tmp_path / "losses.npy", tmp_path / "inference.onnx"
    script = OFFICIAL / "frozen.py"
    result = run_in_training_env(script, files, tmp_path / "given.npz", losses, inference)
    assert result.returncode == 0, result.stderr[-4000:]
    np.testing.assert_allclose(np.load(losses), it.stock["losses"], rtol=THREE_STEPS)
    exported = constants(onnx.load(str(files / "whole_eval_model.onnx")))
    assert exported or method.name in ("ft-all", "ft-blocks")
    assert exported.items() <= constants(onnx.load(str(inference))).items()


@pytest.mark.parametrize("method", in_tiers())
def test_graphs_of_onnxruntime_training_keep_what_saves_memory(
    method: Method, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The forward pass waits for every mask, and pictures pass a prefix one by one."""
    files = made(method, False, tmp_path_factory).bundle.path / TRAINING
    for name in ("training_model", "whole_training_model"):
        nodes = list(onnx.load(str(files / f"{name}.onnx")).graph.node)
        masks = [node for node in nodes if node.op_type == PACKS]
        waits = {o for n in nodes if re.fullmatch(r"after_packing_\d+", n.name) for o in n.output}
        assert len(waits) == len(masks)
        assert waits <= {i for n in nodes for i in n.input}, "a map that nothing reads"
        prefixes = sum(node.op_type == "Scan" for node in nodes)
        assert prefixes == (name.startswith("whole") and method.reach is not Reach.NETWORK)


def made(
    method: Method, executorch: bool, factory: pytest.TempPathFactory, saved: str | None = None
) -> Made:
    """One bundle for ExecuTorch and one for the others, each exported once per test run."""
    key = (method.name, executorch, saved)
    if key not in _MADE:
        folder = factory.mktemp("methods")
        others = tuple(row.name for row in RUNTIMES if row.name not in (STOCK, EXECUTORCH))
        request = Request(
            SMALL,
            _weights(folder),
            method.name,
            BLOCKS if method.default_blocks else None,
            RESOLUTION,
            "sgd",
            folder / "bundle",
            runtimes=(STOCK, *([EXECUTORCH] if executorch else others)),
            batch=BATCH,
            classes=CLASSES,
            whole_graph=not executorch,
            saved=saved,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "_prepare", _comparable(pipeline._prepare))
            bundle = open_bundle(export_bundle(request))
        given = _batch() | {
            f"state/{name}": value for name, value in bundle.initial_state(CLASSES, 0).items()
        }
        _MADE[key] = Made(bundle, given, take_steps(bundle, STOCK, given))
    return _MADE[key]


def _weights(folder: Path) -> str:
    path = folder / "small.safetensors"
    save_file(dict(backbones.trained_looking(find_network(SMALL).family).state_dict()), path)
    return str(path)


def _batch() -> dict[str, Any]:
    return {
        "pictures": invented_pictures(BATCH, RESOLUTION),
        "labels": np.arange(BATCH, dtype=np.int64) % CLASSES,
        "lr": np.array(LR),
        "steps": np.array(STEPS),
    }


def _comparable(prepare: Any) -> Any:
    """`prepare`, and numbers that two programs can agree on."""

    def prepared(request: Request) -> Parts:
        parts: Parts = prepare(request)
        backbones.stir(parts.transfer.top)
        with torch.no_grad():
            h = parts.transfer.prefix(torch.from_numpy(_batch()["pictures"]))
        clear_of_kinks(parts.transfer.top.train(), h.numpy(), backbones.ROOM)
        return parts

    return prepared


def compare(
    method: Method,
    runtime: str,
    factory: pytest.TempPathFactory,
    saved: str | None = None,
    one_step: float = ONE_STEP,
) -> None:
    """Feature maps, losses, logits, embedding, and every tensor of the state after one step."""
    if runtime == EXECUTORCH:
        pytest.importorskip("executorch", reason="needs the executorch package")
    it = made(method, runtime == EXECUTORCH, factory, saved)
    found = _steps(it, runtime, factory.mktemp("steps"))
    assert found.keys() == it.stock.keys()
    # Which shifts nobody reads is told by floats: bytes round a gradient of nothing to 4e-4.
    floats = it.stock if saved is None else made(method, runtime == EXECUTORCH, factory).stock
    errors = {name: _error(name, found, it.stock, _is_unread(name, floats)) for name in found}
    later = dict.fromkeys(("losses", "logits", "embedding"), THREE_STEPS)
    bounds = {"h": FEATURES, **later}
    assert {n: e for n, e in errors.items() if not e <= bounds.get(n, one_step)} == {}
    if runtime == EXECUTORCH:
        manifest = it.bundle.manifest
        planned = manifest.memory.train_step.peak_bytes(BATCH, CLASSES)
        arena = manifest.peak_bytes(runtime, "train_step", BATCH, CLASSES)
        assert arena <= ARENA * planned + ALIGNMENT


def _steps(it: Made, runtime: str, scratch: Path) -> dict[str, Any]:
    if runtime != TRAINING:
        return take_steps(it.bundle, runtime, it.given)
    given, out = scratch / "given.npz", scratch / "found.npz"
    np.savez(given, **it.given)
    result = run_in_training_env(WORKER, it.bundle.path, runtime, given, out)
    assert result.returncode == 0, result.stderr[-4000:]
    with np.load(out) as file:
        return dict(file)


def _is_unread(name: str, stock: dict[str, Any]) -> bool:
    """Whether it is the gradient of a shift that nobody reads: small beside that of its scale."""
    norm, dot, leaf = name.rpartition(".")
    if "/sgd" not in name or leaf != "bias":
        return False
    beside = np.linalg.norm(stock.get(f"{norm}{dot}weight", stock[name]))
    return bool(np.linalg.norm(stock[name]) < UNREAD * beside)


def _error(name: str, found: dict[str, Any], stock: dict[str, Any], unread: bool) -> float:
    """||found - stock||, over the norm of `stock`, or of its scale's where it is `unread`."""
    wanted = stock[name].astype(np.float64)
    beside = stock[f"{name.rpartition('.')[0]}.weight"] if unread else wanted
    scale = float(np.linalg.norm(beside))
    return float(np.linalg.norm(found[name] - wanted) / max(scale, 1e-30))
