"""The onnxruntime session on a real, tiny bundle, against the same mathematics in NumPy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.errors import BadBundle, InternalError, MissingDependency
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from runtime_tests.support.board.tiny_bundle import (
    BIAS,
    KEEP,
    MEAN,
    MOMENTUM,
    SLOT,
    WEIGHT,
    tiny_document,
    write_manifest,
    write_tiny_bundle,
)

pytest.importorskip("onnx", reason="the tiny bundle's graphs are written with onnx")
pytest.importorskip("onnxruntime")

# Sums of at most 100 float32 values of order 1.
TOLERANCE = 1e-5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def opened(bundle: Bundle, classes: int = 3, seed: int = 0) -> Session:
    return open_session(bundle, classes, bundle.initial_state(classes, seed), threads=1)


def batch(count: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    h = generator.normal(size=(count, 6, 2, 2)).astype(np.float32)
    return h, generator.integers(0, classes, count)


def step_in_numpy(state: Any, h: Any, labels: Any, lr: float) -> tuple[float, int]:
    """Do what train_step.onnx does, in float64, on `state` in place."""
    pooled = h.astype(np.float64).mean(axis=(2, 3))
    x = pooled - state[MEAN]
    logits = x @ state[WEIGHT].T + state[BIAS]
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.eye(logits.shape[1])[labels]
    error = (np.exp(log_softmax) - target) / len(labels)
    for name, gradient in ((WEIGHT, error.T @ x), (BIAS, error.sum(axis=0))):
        state[SLOT + name] = MOMENTUM * state[SLOT + name] + gradient
        state[name] = state[name] - lr * state[SLOT + name]
    state[MEAN] = KEEP * state[MEAN] + (1 - KEEP) * pooled.mean(axis=0)
    loss = -(log_softmax * target).sum(axis=1).mean()
    return float(loss), int((logits.argmax(axis=1) == labels).sum())


@pytest.mark.parametrize("classes", [2, 7])
def test_steps_in_place_equal_numpy(bundle: Bundle, classes: int) -> None:
    expected = {
        name: array.astype(np.float64) for name, array in bundle.initial_state(classes, 0).items()
    }
    with opened(bundle, classes) as session:
        for index, count in enumerate((8, 1, 5, 8)):  # a new batch size binds new memory
            h, labels = batch(count, classes, seed=index)
            result = session.train_step(h, labels, 0.3)
            loss, correct = step_in_numpy(expected, h, labels, 0.3)
            assert result.loss == pytest.approx(loss, abs=TOLERANCE)
            assert result.correct == correct
        found = session.state()
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=TOLERANCE, rtol=0, err_msg=name)


def test_the_state_is_written_over_itself(bundle: Bundle) -> None:
    with opened(bundle) as session:
        places = {name: array.ctypes.data for name, array in session._state.items()}
        before = {name: array.copy() for name, array in session.state().items()}
        session.train_step(*batch(4, 3), 0.5)
        assert {name: array.ctypes.data for name, array in session._state.items()} == places
        assert all((session.state()[name] != before[name]).any() for name in before)


def test_features_average_and_repeat(bundle: Bundle) -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    with opened(bundle) as session:
        h = session.features(images)
    pooled = images.reshape(3, 3, 2, 4, 2, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(h, np.concatenate([pooled, pooled], 1), atol=TOLERANCE, rtol=0)


def test_any_layout_of_the_inputs_is_taken(bundle: Bundle) -> None:
    h, labels = batch(4, 3)
    with opened(bundle) as session:
        straight = session.predict(h)
        strided = session.predict(np.asfortranarray(h))
        reversed_twice = session.predict(h[::-1])[::-1]
        session.train_step(h[:2].astype(np.float64), labels[:2].astype(np.int32), 0.1)
    np.testing.assert_array_equal(straight, strided)
    np.testing.assert_allclose(straight, reversed_twice, atol=TOLERANCE, rtol=0)


def test_prediction_uses_the_new_state(bundle: Bundle) -> None:
    h, labels = batch(6, 3)
    state = {name: a.astype(np.float64) for name, a in bundle.initial_state(3, 0).items()}
    with opened(bundle) as session:
        session.train_step(h, labels, 0.5)
        step_in_numpy(state, h, labels, 0.5)
        answered = session.embed(h)
        np.testing.assert_array_equal(session.predict(h), answered.logits)
    embedding = h.mean(axis=(2, 3)) - state[MEAN]
    np.testing.assert_allclose(answered.embeddings, embedding, atol=TOLERANCE, rtol=0)
    expected = embedding @ state[WEIGHT].T + state[BIAS]
    np.testing.assert_allclose(answered.logits, expected, atol=TOLERANCE, rtol=0)


def test_two_runs_give_the_same_bits(bundle: Bundle) -> None:
    runs = []
    for _ in range(2):
        with opened(bundle) as session:
            for seed in range(3):
                session.train_step(*batch(8, 3, seed), 0.1)
            runs.append(session.state())
    for name in runs[0]:
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_functions_are_loaded_on_first_use(bundle: Bundle) -> None:
    with opened(bundle) as session:
        assert list(session._functions) == []
        session.predict(batch(1, 3)[0])
        assert list(session._functions) == ["predict"]


def test_the_callers_state_is_not_touched(bundle: Bundle) -> None:
    state = bundle.initial_state(3, 0)
    with open_session(bundle, 3, state, threads=1) as session:
        session.train_step(*batch(4, 3), 0.5)
    np.testing.assert_array_equal(state[WEIGHT], bundle.initial_state(3, 0)[WEIGHT])


def test_wrong_shapes_are_our_bug_and_say_which_function(bundle: Bundle) -> None:
    with opened(bundle) as session, pytest.raises(InternalError, match=r"predict\.onnx failed"):
        session.predict(np.zeros((2, 5, 2, 2), np.float32))


def test_a_file_that_is_no_graph(folder: Path) -> None:
    (folder / "onnxruntime" / "features.onnx").write_bytes(b"not a graph")
    reseal(folder)
    with pytest.raises(BadBundle, match="is no ONNX file"):
        open_bundle(folder)


def test_a_graph_that_onnxruntime_does_not_take(folder: Path) -> None:
    """A sound file, of a convolution that has no room for its kernel."""
    onnx = pytest.importorskip("onnx")
    file = folder / "onnxruntime" / "features.onnx"
    model = onnx.load(str(file))
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("group", 5))
    file.write_bytes(model.SerializeToString())
    reseal(folder)
    images = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(BadBundle), opened(open_bundle(folder)) as session:
        session.features(images)


def test_a_graph_with_other_names(folder: Path) -> None:
    graphs = folder / "onnxruntime"
    (graphs / "predict.onnx").write_bytes((graphs / "features.onnx").read_bytes())
    reseal(folder)
    missing = r"\['embedding', 'logits'\]"
    message = rf"unknown inputs \['images'\], missing outputs {missing}, unknown outputs \['h'\]"
    with opened(open_bundle(folder)) as session, pytest.raises(BadBundle, match=message):
        session.predict(batch(1, 3)[0])


def test_a_state_entry_that_the_step_does_not_return(folder: Path) -> None:
    reseal(folder, extra={"name": "forgotten", "role": "parameter", "shape": [1], "init": "zeros"})
    session = opened(open_bundle(folder))
    with session, pytest.raises(BadBundle, match=r"missing outputs \['forgotten\.next'\]"):
        session.train_step(*batch(2, 3), 0.1)


def test_an_entry_that_predict_does_not_read_is_not_fed(folder: Path) -> None:
    reseal(folder, extra={"name": "unread", "role": "parameter", "shape": [1], "init": "zeros"})
    with opened(open_bundle(folder)) as session:
        assert session.predict(batch(2, 3)[0]).shape == (2, 3)


def test_without_onnxruntime_the_hint_is_a_command(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match='pip install "onnxruntime>='):
        opened(bundle)


def reseal(folder: Path, extra: Any = None) -> None:
    (folder / "manifest.json").unlink()
    document = tiny_document(folder)
    if extra is not None:
        document["state"].append({**extra, "dtype": "float32"})
        document["memory"]["state"]["fixed"] += 4
    write_manifest(folder, document)
