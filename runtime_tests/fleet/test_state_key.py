"""What the server signs, checked by minisign itself and by our own commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import numpy as np

from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands.table import main
from mobiletl.device.errors import Untrusted, UsageError
from mobiletl.fleet.folder import FleetFolder
from mobiletl.fleet.keys import make_keys
from mobiletl.fleet.state_key import KEY, PUBLIC, sign_file
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT, write_tiny_bundle

MINISIGN = shutil.which("minisign")
CLASSES = ("ant", "bee")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ["127.0.0.1"], ["kitchen"])
    return tmp_path / "keys"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path, keys: Path, bundle: Path) -> FleetFolder:
    fleet = FleetFolder(tmp_path / "fleet", keys / KEY)
    fleet.path.mkdir()
    save(fleet, bundle, 0.5)
    return fleet


def save(fleet: FleetFolder, bundle: Path, value: float) -> None:
    shapes = {WEIGHT: (2, 6), BIAS: (2,), MEAN: (6,)}
    tensors = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    fleet.save(read_manifest(bundle), CLASSES, tensors, 3)


@pytest.mark.skipif(MINISIGN is None, reason="minisign is not installed")
def test_minisign_itself_takes_it(folder: FleetFolder, keys: Path) -> None:
    command = [str(MINISIGN), "-V", "-p", str(keys / PUBLIC), "-m", str(folder.state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "state of a fleet after round 3" in done.stdout
    folder.state.write_bytes(folder.state.read_bytes()[:-1] + b"\x07")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_every_round_signs_anew(folder: FleetFolder, keys: Path, bundle: Path) -> None:
    require_state_signature(folder.state, keys / PUBLIC)
    former = folder.state.read_bytes()
    save(folder, bundle, 0.25)
    require_state_signature(folder.state, keys / PUBLIC)
    folder.state.write_bytes(former)
    with pytest.raises(Untrusted, match=r"does not fit.*the state is not the one"):
        require_state_signature(folder.state, keys / PUBLIC)


def test_another_fleets_state_is_refused(folder: FleetFolder, tmp_path: Path) -> None:
    make_keys(tmp_path / "others", ["127.0.0.1"], [])
    with pytest.raises(Untrusted, match="another key"):
        require_state_signature(folder.state, tmp_path / "others" / PUBLIC)


def test_a_state_that_nobody_signed_is_refused_by_the_commands(
    folder: FleetFolder, keys: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.state.with_name("state.safetensors.minisig").unlink()
    words = ["--bundle", bundle, "--state", folder.state, "--state-key", keys / PUBLIC]
    assert main(["predict", *map(str, words), str(keys)]) == Untrusted.exit_code
    assert "nobody has signed this state" in capsys.readouterr().err
    assert main(["finish", "--to", "onnx", *map(str, words)]) == Untrusted.exit_code
    train = ["--bundle", bundle, "--data", keys, "--from", folder.path, "--state-key"]
    assert main(["train", *map(str, train), str(keys / PUBLIC)]) == Untrusted.exit_code
    assert "nobody has signed this state" in capsys.readouterr().err


def test_a_key_without_a_run_to_go_on_from_is_refused(
    keys: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", bundle, "--data", keys, "--state-key", keys / PUBLIC]
    assert main(["train", *map(str, words)]) == UsageError.exit_code
    assert "name that run with --from" in capsys.readouterr().err


def test_keys_that_are_there_stay(keys: Path) -> None:
    before = (keys / KEY).read_bytes(), (keys / PUBLIC).read_bytes()
    make_keys(keys, [], ["garden"])
    assert before == ((keys / KEY).read_bytes(), (keys / PUBLIC).read_bytes())
    assert (keys / KEY).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"no key\n", b"-----BEGIN PRIVATE KEY-----\nxx\n"])
def test_what_is_no_key_is_one_line(folder: FleetFolder, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.key").write_bytes(content)
    with pytest.raises(UsageError, match="holds no key"):
        sign_file(folder.state, tmp_path / "odd.key", "round 1")
