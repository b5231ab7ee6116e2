"""Which runtime a bundle opens on, and what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.manifest import RuntimeFiles
from mobiletl.device.errors import BadBundle, MissingDependency, UsageError
from mobiletl.device.sessions import runtimes
from mobiletl.device.sessions.runtimes import (
    choose_runtime,
    open_session,
    static_batch,
    usable_cores,
)
from mobiletl.device.sessions.table import RUNTIMES, Runtime
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

SERVED = ("onnxruntime", "torchscript")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle that says it serves two runtimes, one of them for batches of 4 and 3 classes."""
    plain = open_bundle(write_tiny_bundle(tmp_path / "tiny", graphs=False))
    files = {
        "onnxruntime": RuntimeFiles({}, None, None, {}),
        "torchscript": RuntimeFiles({}, 4, 3, {}),
    }
    return replace(plain, manifest=replace(plain.manifest, runtimes=files))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make exactly the named runtimes installed."""

    def only(*names: str) -> None:
        monkeypatch.setattr(Runtime, "installed", lambda row: row.name in names)
        monkeypatch.setattr(runtimes, "installed_release", lambda distribution: "")

    return only


def test_the_table_has_no_duplicates() -> None:
    names = [row.name for row in RUNTIMES]
    assert len(names) == len(set(names))
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [(SERVED, "onnxruntime"), (("torchscript", "executorch"), "torchscript")],
)
def test_the_first_that_is_served_and_installed(
    bundle: Bundle, install: Any, installed: Any, chosen: str
) -> None:
    install(*installed)
    assert choose_runtime(bundle).name == chosen


def test_a_named_one_is_taken_before_the_first(bundle: Bundle, install: Any) -> None:
    install(*SERVED)
    row = choose_runtime(bundle, "torchscript")
    assert (row.name, static_batch(bundle, row)) == ("torchscript", 4)
    assert static_batch(bundle, choose_runtime(bundle, "onnxruntime")) is None


def test_a_named_one_that_is_missing_comes_with_its_command(bundle: Bundle, install: Any) -> None:
    install("onnxruntime")
    with pytest.raises(MissingDependency, match="torchscript comes by: pip install torch"):
        choose_runtime(bundle, "torchscript")


def test_none_installed_lists_every_way(bundle: Bundle, install: Any) -> None:
    install()
    with pytest.raises(MissingDependency, match=r"onnxruntime comes by.*torchscript comes by"):
        choose_runtime(bundle)


def test_an_unknown_runtime_lists_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"onnxruntime, onnxruntime-training, .*, torchscript$"):
        choose_runtime(bundle, "tensorrt")


def test_a_bundle_without_files_for_the_runtime(bundle: Bundle) -> None:
    with pytest.raises(BadBundle, match="files for onnxruntime, torchscript, not for executorch"):
        choose_runtime(bundle, "executorch")


def test_a_bundle_without_files_for_any(tmp_path: Path) -> None:
    plain = open_bundle(write_tiny_bundle(tmp_path, graphs=False))
    with pytest.raises(BadBundle, match="has files for no runtime"):
        choose_runtime(plain)
    assert choose_runtime(plain, "fake").name == "fake"


def test_other_classes_than_exported(bundle: Bundle, install: Any) -> None:
    install(*SERVED)
    with pytest.raises(UsageError, match="exported for 3 classes on torchscript, found 5"):
        open_session(bundle, 5, bundle.initial_state(5, 0), runtime="torchscript")


def test_two_onnxruntimes_in_one_environment(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "installed_release", lambda name: "1.19.2")
    with pytest.raises(MissingDependency, match="pip uninstall -y onnxruntime onnxruntime-train"):
        choose_runtime(bundle, "onnxruntime")
    monkeypatch.setattr(Runtime, "installed", lambda row: True)
    assert choose_runtime(bundle, "torchscript").name == "torchscript"


def test_a_package_inside_a_missing_one_is_not_installed() -> None:
    assert not Runtime("x", "", "no_such_package.inside", "", "").installed()
    assert Runtime("x", "", "json.decoder", "", "").installed()
