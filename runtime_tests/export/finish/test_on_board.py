"""A file that a board finished and one that the host finished cannot be told apart by a program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mobiletl.device.bundle.answers import Answers, Unknown
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, save_state
from mobiletl.device.finishing.finish import finish as finish_on_board
from mobiletl.device.heads.unknown import fit_familiar
from mobiletl.device.sessions import onnxruntime as session_onnxruntime
from mobiletl.export.finish.finish import Order, finish
from runtime_tests.support.exported_bundles import Case, exported, invented_pictures

CLASSES = ("cat", "dog", "zèbre")
SLOW = (Case("ft-all", None), Case("ft-bn", None), Case("repnet", None), Case("da3", None))
CASES = [
    pytest.param(Case("mobiletl", 3), id="mobiletl"),
    pytest.param(Case("ft-last", None), id="ft-last"),
    *(pytest.param(case, id=case.method, marks=pytest.mark.slow) for case in SLOW),
    pytest.param(Case("mobiletl", 3, real=True, resolution=224), id="real", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("tells_unknown", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_both_files_are_one_to_a_program(
    case: Case, tells_unknown: bool, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = exported(tmp_path_factory, case)
    images = invented_pictures(12, case.resolution)
    state = trained_state(folder, images, tmp_path / "state.safetensors", tells_unknown)
    finish(Order(folder, state, "onnx", out=tmp_path / "host.onnx"))
    finish_on_board(folder, state, tmp_path / "board.onnx")
    host, board = (onnx.load(str(tmp_path / f"{name}.onnx")) for name in ("host", "board"))
    assert list(board.metadata_props) == list(host.metadata_props)
    assert list(board.graph.input) == list(host.graph.input)
    assert list(board.graph.output) == list(host.graph.output)
    assert board.opset_import == host.opset_import
    theirs, ours = (run(tmp_path / f"{name}.onnx", images) for name in ("host", "board"))
    for expected, found in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def trained_state(folder: Path, images: np.ndarray, path: Path, tells_unknown: bool) -> Path:
    bundle = open_bundle(folder)
    start = bundle.initial_state(len(CLASSES), 0)
    with session_onnxruntime.open_session(bundle, len(CLASSES), start, threads=1) as session:
        h = session.features(images)
        for _ in range(10):
            session.train_step(h, np.arange(12) % 3, 0.05)
        familiar = fit_familiar(session.embed(h).embeddings[:6])
        unknown = Unknown(-5.0, 0.95, 1.0, 20.0, familiar.centre, familiar.directions)
        answers = Answers(2.5, 6, 0.01, unknown if tells_unknown else None)
        fit = bundle.manifest.fit
        info = StateInfo(fit, CLASSES, epoch=1, step=10, seed=0, answers=answers)
        save_state(path, session.state(), info)
    return path


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"images": images})
    return found
