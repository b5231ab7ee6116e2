"""The session on onnxruntime-training where the package is not: what a person reads then. That it
trains: runtime_tests/export/lowering/test_onnxruntime_training.py.
"""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from mobiletl.device.errors import BadBundle, MissingDependency
from mobiletl.device.sessions.onnxruntime_training import session


def has_training() -> bool:
    found = importlib.util.find_spec("onnxruntime")
    return found is not None and importlib.util.find_spec("onnxruntime.training") is not None


@pytest.mark.skipif(has_training(), reason="onnxruntime-training is installed here")
def test_package_is_missing() -> None:
    with pytest.raises(MissingDependency, match=r"pip install onnxruntime-training-cpu==1\.19\.2"):
        session._import()


def test_checkpoint_of_another_model(tmp_path) -> None:
    paths = {role: tmp_path / "onnxruntime-training" / role for role in ("checkpoint",)}
    paths["training_model"] = tmp_path / "onnxruntime-training" / "training_model.onnx"
    record = SimpleNamespace(sha256="1" * 64)
    manifest = SimpleNamespace(files={"onnxruntime-training/training_model.onnx": record}, state=())
    checkpoint = SimpleNamespace(properties={"mobiletl.training_model": "2" * 64})
    with pytest.raises(BadBundle, match=r"another model .* 222222222222, expected 111111111111"):
        session._slots(checkpoint, manifest, paths)
