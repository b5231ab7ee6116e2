"""A Raspberry Pi 4 that is not there takes part in a fleet, beside a board that runs natively.

pytest -s -m long runtime_tests/whole/test_emulated_fleet.py
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulation.engine import SHARED, choose
from emulation.errors import CannotEmulate
from emulation.machine import machine
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from runtime_tests.support.exported_bundles import Case, exported
from runtime_tests.support.fleet_processes import Fleet, needs_fleet_env, write_digits
from tools.own_wheel import build_wheel

pytestmark = [pytest.mark.slow, pytest.mark.long, needs_fleet_env]

EMULATED, NATIVE = "kitchen", "garden"
ROUNDS = 2
# An emulated processor is some fifty times slower than the one that it runs on.
ROUND_SECONDS, MOST_SECONDS = 1500, 4000

# On the board: take part until the host says that it is over.
JOIN = """
import json, platform, subprocess, sys, time
from importlib import metadata
from pathlib import Path

shared, address = Path(sys.argv[1]), sys.argv[2]
has = {each.metadata["Name"].lower() for each in metadata.distributions()}
(shared / "about.json").write_text(json.dumps({
    "machine": platform.machine(), "python": platform.python_version(),
    "flwr": metadata.version("flwr"), "torch": "torch" in has,
}))
command = ["mobiletl", "fleet", "join", "--server", address, "--ca", str(shared / "ca.pem")]
command += ["--key", str(shared / "key" / sys.argv[3]), "--bundle", str(shared / "bundle")]
command += ["--data", str(shared / "photos"), "--home", str(shared / "home")]
command += ["--name", sys.argv[3], "--threads", "1"]
board = subprocess.Popen(command)
while board.poll() is None and not (shared / "over").exists():
    time.sleep(1)
board.kill()
sys.exit(0 if (shared / "over").exists() else 1)
"""


def shared_folder(folder: Path, fleet: Fleet, bundle: Path, photos: Path) -> Path:
    """Fill `folder` with what the board is given."""
    folder.mkdir()
    (folder / "join.py").write_text(JOIN)
    shutil.copytree(bundle, folder / "bundle")
    shutil.copytree(photos, folder / "photos")
    shutil.copy(fleet.keys / "ca.pem", folder)
    (folder / "key").mkdir()
    for file in (fleet.keys / "boards").glob(f"{EMULATED}*"):
        shutil.copy(file, folder / "key")
    return folder


def test_an_emulated_pi_takes_part(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    board = machine("pi4", extra="fleet")
    try:
        engine = choose(board)
    except CannotEmulate as error:
        pytest.skip(f"no emulated board: {error}")
    installed = engine.install(board, build_wheel(tmp_path / "wheel"))
    bundle = exported(tmp_path_factory, Case("mobiletl", 3, "adam"))
    write_digits(tmp_path / "pictures")
    (tmp_path / "fleet").mkdir()
    with Fleet(tmp_path / "fleet", bundle) as fleet, ThreadPoolExecutor(1) as pool:
        given = shared_folder(tmp_path / "given", fleet, bundle, tmp_path / "pictures" / EMULATED)
        settings = ["--bundle", bundle, "--classes", ",".join(map(str, range(10)))]
        settings += ["--boards", 2, "--rounds", ROUNDS, "--epochs", 1, "--lr", 0.001]
        fleet.serve(*settings, "--round-seconds", ROUND_SECONDS, "--encoding", "float16")
        command = ["python", f"{SHARED}/join.py", SHARED, fleet.address, EMULATED]
        taking_part = pool.submit(installed.run, given, command, MOST_SECONDS)
        fleet.join(NATIVE, tmp_path / "pictures" / NATIVE)
        try:
            code = fleet.finish(MOST_SECONDS)
        finally:
            (given / "over").touch()
        done = taking_part.result()
        assert code == 0, done.stdout + fleet.logs()
        rounds = fleet.rounds()
    about = json.loads((given / "about.json").read_text())
    print(about, json.dumps(rounds[-1], indent=1))
    assert (about["machine"], about["torch"]) == ("aarch64", False)
    for one in rounds:
        assert {each["board"] for each in one["boards"]} == {EMULATED, NATIVE}
    _, info = load_state(fleet.server / "state.safetensors", open_bundle(bundle).manifest)
    assert info.epoch == ROUNDS
