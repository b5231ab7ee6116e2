"""Finished files are calibrated, and hold what tells pictures of none of the classes."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mobiletl.device.bundle.answers import Answers, Unknown
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.heads.unknown import fit_familiar, score, strangeness
from mobiletl.device.sessions import onnxruntime as session_onnxruntime
from mobiletl.export.finish.finish import Order, finish
from runtime_tests.support.exported_bundles import Case, exported, invented_pictures

CLASSES = ("cat", "dog", "hen")
# Only a classifier is trained; and layers are put beside the blocks.
CASES = [
    pytest.param(Case("ft-last", None), id="ft-last"),
    pytest.param(Case("repnet-bias", None), id="repnet-bias", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Made:
    bundle: Path
    state: Path
    images: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray
    answers: Answers


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = exported(tmp_path_factory, request.param)
    bundle = open_bundle(folder)
    state = bundle.initial_state(len(CLASSES), 0)
    images = invented_pictures(8, request.param.resolution)
    with session_onnxruntime.open_session(bundle, len(CLASSES), state, threads=1) as session:
        found = session.embed(session.features(images))
        logits, embeddings = found.logits.copy(), found.embeddings.copy()
    familiar = fit_familiar(embeddings[:6])
    unknown = Unknown(-5.0, 0.95, 1.0, 20.0, familiar.centre, familiar.directions)
    answers = Answers(2.5, 6, 0.01, unknown)
    path = tmp_path_factory.mktemp("run") / "state.safetensors"
    info = StateInfo(bundle.manifest.fit, CLASSES, epoch=1, step=1, seed=0, answers=answers)
    save_state(path, state, info)
    return Made(folder, path, images, logits, embeddings, answers)


def test_logits_are_calibrated_and_the_facts_tell_the_unknown(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "finished.onnx"
    finish(Order(made.bundle, made.state, "onnx", out=out))
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "embedding"]
    logits, embedding = session.run(None, {"images": made.images})
    np.testing.assert_allclose(logits, made.logits / 2.5, atol=1e-4)
    np.testing.assert_allclose(embedding, made.embeddings, atol=1e-4)
    (facts,) = [json.loads(prop.value) for prop in onnx.load(str(out)).metadata_props]
    assert facts["answers"]["temperature"] == 2.5
    # As docs/finish.md has it.
    u = facts["answers"]["unknown"]
    s = np.frombuffer(base64.b64decode(u["subspace"]), "<f4").reshape(u["subspace_shape"])
    c = embedding - s[0]
    r = np.linalg.norm(c - c @ s[1:].T @ s[1:], axis=1) / np.linalg.norm(embedding, axis=1)
    found = logits.max(axis=1) - u["weight"] * r
    unknown = made.answers.unknown
    assert unknown is not None
    familiar = fit_familiar(made.embeddings[:6])
    expected = score(made.logits, strangeness(made.embeddings, familiar), 2.5, 20.0)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert u["threshold"] == unknown.threshold


def test_eight_bits_keep_the_embedding(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "finished.onnx"
    finish(Order(made.bundle, made.state, "onnx", int8=True, out=out))
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "embedding"]


def test_other_formats_are_calibrated(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "finished.ts"
    finish(Order(made.bundle, made.state, "torchscript", out=out))
    extra = {"mobiletl.json": ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        loaded = torch.jit.load(str(out), _extra_files=extra)
    logits = loaded(torch.from_numpy(made.images))
    np.testing.assert_allclose(logits.numpy(), made.logits / 2.5, atol=1e-4)
    assert json.loads(extra["mobiletl.json"])["answers"]["unknown"]["weight"] == 20.0
