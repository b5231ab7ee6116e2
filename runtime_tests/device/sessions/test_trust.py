"""Programs of a bundle from elsewhere are not run unless a person says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.records import OWN, remember
from mobiletl.device.commands.table import main
from mobiletl.device.errors import Untrusted
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.table import RUNTIMES, Runtime, known_runtime
from mobiletl.device.sessions.trust import require_trust
from runtime_tests.support.board.tiny_bundle import tiny_document, write_manifest, write_tiny_bundle


@pytest.fixture(autouse=True)
def no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "records"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle that says it has programs; nothing in this file may read them."""
    folder = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    names = ("features", "train_step", "predict")
    for name in names:
        (folder / f"{name}.ts").write_bytes(b"no program")
    (folder / "manifest.json").unlink()
    files = {name: f"{name}.ts" for name in names}
    served = {"torchscript": {"files": files, "batch": None, "classes": None, "memory": {}}}
    write_manifest(folder, {**tiny_document(folder), "runtimes": served})
    return folder


def test_the_table_says_which_runtimes_run_programs() -> None:
    assert {row.name for row in RUNTIMES if row.runs_code} == {"executorch", "torchscript"}


def test_a_bundle_from_elsewhere_is_refused_with_what_to_type(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "installed", lambda _: True)
    bundle = open_bundle(folder)
    with pytest.raises(Untrusted, match=r"are programs.*add --trust-bundle"):
        open_session(bundle, 2, bundle.initial_state(2, 0), 1, "torchscript")


def test_one_that_is_said_to_be_trusted_or_was_made_here_is_not(folder: Path) -> None:
    row = known_runtime("torchscript")
    require_trust(open_bundle(folder, trust_bundle=True), row)
    bundle = open_bundle(folder)
    remember(OWN, bundle.manifest.id)
    require_trust(bundle, row)


def test_graphs_need_no_trust(folder: Path) -> None:
    require_trust(open_bundle(folder), known_runtime("onnxruntime"))


def test_a_changed_bundle_is_another_one(folder: Path) -> None:
    remember(OWN, open_bundle(folder).manifest.id)
    (folder / "predict.ts").write_bytes(b"another program")
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    write_manifest(folder, {**tiny_document(folder), "runtimes": document["runtimes"]})
    with pytest.raises(Untrusted):
        require_trust(open_bundle(folder), known_runtime("torchscript"))


@pytest.mark.parametrize("command", ["train", "teach", "predict", "review"])
def test_every_command_that_runs_a_bundle_has_the_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert "--trust-bundle" in capsys.readouterr().out
