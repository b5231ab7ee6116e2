"""The TorchScript session beside the stock one, on the same bundle."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency
from mobiletl.device.sessions.session import Session
from mobiletl.device.sessions.torchscript import open_session

torch = pytest.importorskip("torch", reason="the session runs on PyTorch")
pytest.importorskip("onnxscript", reason="bundles are exported with it")

from mobiletl.device.sessions import onnxruntime as session_onnxruntime  # noqa: E402
from mobiletl.export.writing.export_bundle import export_bundle  # noqa: E402
from runtime_tests.support.exported_bundles import Case, invented_pictures  # noqa: E402

# ||a - b|| / ||b|| after one SGD step.
TOLERANCE = 1e-5
# What cancels to nothing leaves rounding, 1e-9 per element: the gradient of a shift in front of a
# norm with batch statistics, the running mean of maps that a norm has centred.
ROUNDING = 1e-7
CASES = (Case("mobiletl", 2), Case("ft-blocks", 2), Case("ft-last", None))
IN_TIERS = [
    pytest.param(case, id=str(case), marks=[pytest.mark.slow] if case.method == "ft-blocks" else [])
    for case in CASES
]


@pytest.fixture(scope="module", params=IN_TIERS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return written(request.param, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return written(CASES[2], tmp_path_factory.mktemp("small"))


def written(case: Case, folder: Path) -> Bundle:
    request = case.request(folder / str(case))
    runtimes = ("onnxruntime", "torchscript")
    return open_bundle(export_bundle(replace(request, runtimes=runtimes)))


def both(bundle: Bundle, classes: int) -> tuple[Session, Session]:
    state = bundle.initial_state(classes, 0)
    stock = session_onnxruntime.open_session(bundle, classes, state, threads=1)
    return stock, open_session(bundle, classes, state, threads=1)


def difference(found: Any, wanted: Any) -> float:
    norm = float(np.linalg.norm(np.ravel(wanted)))
    distance = float(np.linalg.norm(np.ravel(found - wanted)))
    return max(0.0, distance - ROUNDING) / max(norm, 1e-12)


@pytest.mark.parametrize(("count", "classes"), [(6, 5), (1, 2)])
def test_equals_the_stock_session(bundle: Bundle, count: int, classes: int) -> None:
    if count == 1 and bundle.manifest.method.name == "ft-blocks":
        pytest.skip("one value per channel has no variance: batch norm needs two pictures")
    stock, torchscript = both(bundle, classes)
    images = invented_pictures(count, 64)
    labels = np.arange(count) % classes
    with stock, torchscript:
        h = stock.features(images)
        assert difference(torchscript.features(images), h) <= TOLERANCE
        ours, theirs = torchscript.embed(h), stock.embed(h)
        assert difference(ours.logits, theirs.logits) <= TOLERANCE
        assert difference(ours.embeddings, theirs.embeddings) <= TOLERANCE
        wanted, found = (s.train_step(h, labels, 0.01) for s in (stock, torchscript))
        assert found.loss == pytest.approx(wanted.loss, rel=TOLERANCE)
        assert found.correct == wanted.correct
        assert list(torchscript.state()) == list(stock.state())
        for name, tensor in stock.state().items():
            assert difference(torchscript.state()[name], tensor) <= TOLERANCE, name
        assert torchscript.batch is None


def test_a_run_moves_between_runtimes(small: Bundle) -> None:
    """Two steps on one, the third on the other: the same as three on either."""
    h = np.random.default_rng(0).normal(size=(4, 1280, 1, 1)).astype(np.float32)
    labels = np.arange(4) % 3
    stock, torchscript = both(small, 3)
    with stock, torchscript:
        for _ in range(3):
            stock.train_step(h, labels, 0.1)
        for _ in range(2):
            torchscript.train_step(h, labels, 0.1)
        moved = session_onnxruntime.open_session(small, 3, torchscript.state(), threads=1)
        with moved:
            moved.train_step(h, labels, 0.1)
            for name, tensor in stock.state().items():
                assert difference(moved.state()[name], tensor) <= TOLERANCE, name


def test_the_state_is_a_view_that_cannot_be_written_to(small: Bundle) -> None:
    h = np.ones((2, 1280, 1, 1), np.float32)
    with open_session(small, 2, small.initial_state(2, 0), threads=1) as session:
        view = session.state()["classifier.1.bias"]
        before = view.copy()
        session.train_step(h, np.array([0, 0]), 0.5)
        assert not np.array_equal(view, before)
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1.0


def test_the_callers_arrays_are_read_only_and_stay_as_they_are(small: Bundle) -> None:
    state = small.initial_state(2, 0)
    kept = {name: array.copy() for name, array in state.items()}
    h, labels = np.ones((2, 1280, 1, 1), np.float32), np.array([0, 1], np.int32)
    h.flags.writeable = labels.flags.writeable = False
    with open_session(small, 2, state, threads=1) as session:
        session.train_step(h, labels, 0.5)
        session.predict(h[:, ::-1])
    for name, array in kept.items():
        np.testing.assert_array_equal(state[name], array)


def test_functions_are_loaded_on_first_use_and_threads_are_set(small: Bundle) -> None:
    with open_session(small, 2, small.initial_state(2, 0), threads=1) as session:
        assert torch.get_num_threads() == 1
        session.predict(np.ones((1, 1280, 1, 1), np.float32))
        assert list(session._functions) == ["predict"]


def test_wrong_shapes_are_our_bug_on_one_line(small: Bundle) -> None:
    session = open_session(small, 2, small.initial_state(2, 0), threads=1)
    with session, pytest.raises(InternalError, match=r"predict\.ts failed in PyTorch") as caught:
        session.predict(np.ones((1, 7, 1, 1), np.float32))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    bundle = written(CASES[2], tmp_path)
    bundle.file("torchscript/predict.ts").write_bytes(b"not a program")
    session = open_session(bundle, 2, bundle.initial_state(2, 0), threads=1)
    with session, pytest.raises(BadBundle, match="cannot load"):
        session.predict(np.ones((1, 1280, 1, 1), np.float32))


def test_without_pytorch_the_hint_is_a_command(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="pip install torch"):
        open_session(small, 2, small.initial_state(2, 0), threads=1)
