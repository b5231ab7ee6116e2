"""The ExecuTorch session on a real bundle, against the onnxruntime one on the same pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.sessions.executorch import _import
from mobiletl.device.sessions.runtimes import open_session

BATCH, CLASSES, LR = 4, 3, 0.01


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("executorch", reason="needs the executorch package")
    pytest.importorskip("onnxscript", reason="needs the host's packages, to export a bundle")
    from mobiletl.export.writing.export_bundle import Request, export_bundle

    request = Request(
        "mbv2-0.35",
        "demo",
        "mobiletl",
        1,
        64,
        "sgd",
        tmp_path_factory.mktemp("bundles") / "executorch",
        runtimes=("onnxruntime", "executorch"),
        batch=BATCH,
        classes=CLASSES,
    )
    return open_bundle(export_bundle(request))


def _pictures() -> Any:
    generator = np.random.default_rng(0)
    return generator.standard_normal((BATCH, 3, 64, 64)).astype(np.float32)


def _open(bundle: Bundle, runtime: str) -> Any:
    return open_session(bundle, CLASSES, bundle.initial_state(CLASSES, 0), 1, runtime)


@pytest.mark.slow
def test_it_follows_onnxruntime_for_some_steps(bundle: Bundle) -> None:
    labels = np.arange(BATCH) % CLASSES
    with _open(bundle, "executorch") as ours, _open(bundle, "onnxruntime") as theirs:
        h = ours.features(_pictures())
        assert np.allclose(h, theirs.features(_pictures()), rtol=1e-4, atol=1e-5)
        for _ in range(3):
            found, wanted = ours.train_step(h, labels, LR), theirs.train_step(h, labels, LR)
            assert found.loss == pytest.approx(wanted.loss, rel=1e-3)
            assert found.correct == wanted.correct
        assert list(ours.state()) == list(theirs.state())
        answered, expected = ours.embed(h), theirs.embed(h)
        assert np.allclose(answered.logits, expected.logits, rtol=1e-2, atol=1e-2)
        assert np.allclose(answered.embeddings, expected.embeddings, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_the_state_it_was_given_stays_as_it_was(bundle: Bundle) -> None:
    state = bundle.initial_state(CLASSES, 0)
    before = {name: value.copy() for name, value in state.items()}
    with open_session(bundle, CLASSES, state, 1, "executorch") as session:
        h = session.features(_pictures())
        session.train_step(h, np.arange(BATCH) % CLASSES, LR)
        assert all(np.array_equal(state[name], value) for name, value in before.items())
        changed = [n for n, value in session.state().items() if not np.array_equal(value, state[n])]
        assert len(changed) == len(before)
        with pytest.raises(ValueError, match="read-only"):
            session.state()[changed[0]][...] = 0


@pytest.mark.slow
def test_a_state_moves_to_another_runtime(bundle: Bundle) -> None:
    with _open(bundle, "onnxruntime") as first:
        h = first.features(_pictures())
        first.train_step(h, np.arange(BATCH) % CLASSES, LR)
        state = {name: value.copy() for name, value in first.state().items()}
        wanted = first.embed(h)
    with open_session(bundle, CLASSES, state, 1, "executorch") as second:
        found = second.embed(h)
    assert np.allclose(found.logits, wanted.logits, rtol=1e-4, atol=1e-4)
    assert np.allclose(found.embeddings, wanted.embeddings, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_any_number_of_pictures_but_one_batch(bundle: Bundle) -> None:
    with _open(bundle, "executorch") as session:
        assert session.batch == BATCH
        h = session.features(_pictures()[:3])
        answered = session.embed(h)
        assert answered.logits.shape == (3, CLASSES)
        assert answered.embeddings.shape == (3, bundle.manifest.embedding.size)
        assert session.features(_pictures()[:0]).shape[0] == 0
        with pytest.raises(UsageError, match=r"batches of 4 pictures, found 3.*--batch 4"):
            session.train_step(h, np.zeros(3, np.int64), LR)


@pytest.mark.slow
def test_another_number_of_classes_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"exported for 3 classes .* found 5"):
        open_session(bundle, 5, bundle.initial_state(5, 0), 1, "executorch")


@pytest.mark.slow
def test_the_arenas_are_in_the_manifest(bundle: Bundle) -> None:
    stated = bundle.manifest.runtimes["executorch"].memory
    assert set(stated) == {"features", "train_step", "predict"}
    planned = bundle.manifest.memory.train_step.peak_bytes(BATCH, CLASSES)
    arena = bundle.manifest.peak_bytes("executorch", "train_step", BATCH, CLASSES)
    assert stated["train_step"] == ((arena, 0, 0, 0),)
    assert 0 < arena <= 1.5 * planned


def test_a_missing_package_comes_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="pip install executorch"):
        _import(1)


def test_nothing_heavy_is_imported_with_the_module() -> None:
    source = Path(sys.modules[_import.__module__].__file__ or "").read_text(encoding="utf-8")
    assert "\nimport torch" not in source
    assert "\nfrom executorch" not in source
