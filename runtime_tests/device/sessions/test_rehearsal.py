"""The first opening of a bundle may end a process, but not this one; the second is as before."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.records import OPENED, OWN, records_folder, remember, remembered
from mobiletl.device.errors import BadBundle
from mobiletl.device.sessions import rehearsal
from mobiletl.device.sessions.rehearsal import rehearse
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.table import Runtime, known_runtime
from runtime_tests.support.board.tiny_bundle import tiny_document, write_manifest, write_tiny_bundle

DYING = """\
import os, signal


def open_session(*_):
    print("a message that nobody should see")
    os.kill(os.getpid(), signal.{name})
"""


@pytest.fixture(autouse=True)
def no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "records"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    pytest.importorskip("onnx")
    return open_bundle(write_tiny_bundle(tmp_path / "tiny"))


def dying(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Runtime:
    """A runtime that ends its process."""
    (folder / f"runtime_{name.lower()}.py").write_text(DYING.format(name=name))
    monkeypatch.syspath_prepend(str(folder))
    return replace(known_runtime("onnxruntime"), module=f"runtime_{name.lower()}")


@pytest.mark.parametrize("name", ["SIGFPE", "SIGABRT", "SIGSEGV"])
def test_a_runtime_that_dies_leaves_one_line(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    row = dying(tmp_path, monkeypatch, name)
    monkeypatch.setattr(rehearsal, "_alone", lambda: True)
    with pytest.raises(BadBundle, match=rf"ends onnxruntime [\d.]+ \({name}\)"):
        rehearse(bundle, row)
    assert "nobody" not in "".join(capfd.readouterr())


def test_a_graph_that_fails_when_it_runs_is_the_bundles_fault(bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    helper, array = onnx.helper, np.array(5, np.int64)
    file = bundle.file("onnxruntime/train_step.onnx")
    model = onnx.load(str(file))
    place = next(i for i, one in enumerate(model.graph.node) if one.output[0] == "negative")
    del model.graph.node[place]
    far = helper.make_node("Gather", ["per_picture", "far"], ["negative"])
    constant = helper.make_node("Constant", [], ["far"], value=onnx.numpy_helper.from_array(array))
    model.graph.node.insert(place, far)
    model.graph.node.insert(0, constant)
    file.write_bytes(model.SerializeToString())
    (bundle.path / "manifest.json").unlink()
    write_manifest(bundle.path, tiny_document(bundle.path))
    with pytest.raises(BadBundle, match="fail in onnxruntime"):
        rehearse(open_bundle(bundle.path), known_runtime("onnxruntime"))


def test_a_graph_that_ends_old_releases_does_not_end_this_process(bundle: Bundle) -> None:
    """Found by the attack: onnxruntime 1.16.3 and 1.19.2 divide by the size of an empty map."""
    onnx = pytest.importorskip("onnx")
    file = bundle.file("onnxruntime/features.onnx")
    model = onnx.load(str(file))
    pool, convolution = model.graph.node[1:]
    pool.input[0] = "kernel"
    convolution.input[1] = "pooled"
    file.write_bytes(model.SerializeToString())
    (bundle.path / "manifest.json").unlink()
    write_manifest(bundle.path, tiny_document(bundle.path))
    odd = open_bundle(bundle.path)
    with pytest.raises(BadBundle, match=r"SIGFPE|cannot load|fail in"), open_session(
        odd, 2, odd.initial_state(2, 0), 1
    ) as session:
        session.features(np.zeros((1, 3, 8, 8), np.float32))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that a test starts from here on: other tests may have left some."""
    pids: list[int] = []
    fork = os.fork

    def forked() -> int:
        child = fork()
        if child:
            pids.append(child)
        return child

    class Started(subprocess.Popen):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            pids.append(self.pid)

    monkeypatch.setattr(os, "fork", forked)
    monkeypatch.setattr(subprocess, "Popen", Started)
    return pids


def assert_gone(children: list[int]) -> None:
    (child,) = children
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def test_what_takes_for_ever_is_ended(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[int]
) -> None:
    (tmp_path / "sleeping.py").write_text(
        "import time\n\n\ndef open_session(*_):\n    time.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(rehearsal, "MOST_SECONDS", 0.3)
    row = replace(known_runtime("onnxruntime"), module="sleeping")
    monkeypatch.setattr(rehearsal, "_alone", lambda: True)
    with pytest.raises(BadBundle, match="not done after"):
        rehearse(bundle, row)
    assert_gone(children)


@pytest.mark.parametrize("alone", [True, False])
def test_a_sound_bundle_is_remembered(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    if alone and "onnxruntime" in sys.modules:
        pytest.skip("onnxruntime has threads in this process already")
    monkeypatch.setattr(rehearsal, "_alone", lambda: alone)
    rehearse(bundle, known_runtime("onnxruntime"))
    (record,) = (records_folder() or Path()).glob("opened/*")
    assert record.name.startswith(f"{bundle.manifest.id}-onnxruntime-")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    monkeypatch.setattr(rehearsal, "_started", None)
    monkeypatch.setattr(rehearsal, "_forked", None)
    rehearse(bundle, known_runtime("onnxruntime"))
    with open_session(bundle, 2, bundle.initial_state(2, 0), 1) as session:
        session.predict(np.zeros((1, 6, 2, 2), np.float32))


def test_ones_own_bundle_needs_no_rehearsal(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(OWN, bundle.manifest.id)
    rehearse(bundle, dying(tmp_path, monkeypatch, "SIGSEGV"))


def test_a_record_that_others_can_write_is_not_believed() -> None:
    remember(OPENED, "x")
    assert remembered(OPENED, "x")
    folder = (records_folder() or Path()) / OPENED
    folder.chmod(0o777)
    assert not remembered(OPENED, "x")
    folder.chmod(0o700)
    (folder / "x").chmod(0o666)
    assert not remembered(OPENED, "x")


def test_a_home_that_is_not_there_keeps_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    remember(OPENED, "x")
    assert not remembered(OPENED, "x")


def test_an_interrupt_ends_the_process_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, children: list[int]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rehearsal.time, "sleep", _once(interrupted, rehearsal.time.sleep))
    with pytest.raises(KeyboardInterrupt):
        rehearse(bundle, known_runtime("onnxruntime"))
    assert_gone(children)
    assert signal.getsignal(signal.SIGINT) is not None


def _once(first: object, then: object) -> object:
    calls = iter([first])

    def call(seconds: float) -> None:
        function = next(calls, then)
        assert callable(function)
        function(seconds)

    return call
