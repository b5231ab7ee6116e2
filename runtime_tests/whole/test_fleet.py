"""A fleet of real processes on loopback: TLS, keys, no PyTorch, four boards with pictures each.

The aim: as good as one training on all pictures, within two points, and better than any board
alone, though a board and the server are killed on the way.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import mobiletl
from mobiletl.device.bundle.state_file import load_state
from runtime_tests.support.exported_bundles import Case, exported
from runtime_tests.support.fleet_processes import DIGITS, Fleet, needs_fleet_env, write_shards

pytestmark = [pytest.mark.slow, needs_fleet_env]

CLASSES = ",".join(str(digit) for digit in range(10))
ROUNDS = 16
WITHIN = 0.02


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet-bundle")
    return Path(
        shutil.copytree(exported(tmp_path_factory, Case("mobiletl", 3, "adam")), folder / "copied")
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet-pictures")
    write_shards(folder)
    return folder


def accuracy(bundle: Path, state: Path, pictures: Path) -> float:
    files = sorted((pictures / "all" / "val").rglob("*.png"))
    with mobiletl.open_predictor(mobiletl.open_bundle(bundle), state, unknown=False) as predictor:
        right = [predictor.predict(file).label == file.parent.name for file in files]
    return sum(right) / len(right)


def trained(bundle: Path, data: Path, run: Path) -> Path:
    mobiletl.train(bundle, data, run, epochs=30, lr=0.001, augment=False, threads=1)
    return run / "state.safetensors"


@pytest.fixture(scope="module")
def central(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("fleet-central")
    # Without the held-out pictures, of which the run would choose its best epoch.
    return accuracy(bundle, trained(bundle, pictures / "all" / "train", folder / "run"), pictures)


@pytest.fixture(scope="module")
def fleet(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet that has come to its end, with a board and the server killed in the middle."""
    with Fleet(tmp_path_factory.mktemp("fleet"), bundle) as one:
        settings = (
            "--bundle",
            bundle,
            "--classes",
            CLASSES,
            "--boards",
            len(DIGITS),
            "--rounds",
            ROUNDS,
            "--epochs",
            4,
            "--lr",
            0.001,
            "--round-seconds",
            120,
        )
        one.serve(*settings, "--encoding", "float16")
        for board in DIGITS:
            one.join(board, pictures / board)
        one.wait_for_round(2)
        one.kill("porch")
        one.join("porch", pictures / "porch")
        one.wait_for_round(5)
        one.kill("server")
        one.serve()
        assert one.finish(1200) == 0, one.logs()
        return one


def test_it_is_as_good_as_one_training_on_all_pictures(
    fleet: Fleet, bundle: Path, pictures: Path, central: float
) -> None:
    found = accuracy(bundle, fleet.server / "state.safetensors", pictures)
    print(f"fleet {found:.1%}, all pictures in one place {central:.1%}", file=sys.stderr)
    assert found >= central - WITHIN


@pytest.mark.parametrize("board", DIGITS)
def test_it_is_better_than_a_board_alone(
    fleet: Fleet, bundle: Path, pictures: Path, board: str, tmp_path: Path
) -> None:
    alone = accuracy(bundle, trained(bundle, pictures / board, tmp_path / "run"), pictures)
    assert accuracy(bundle, fleet.server / "state.safetensors", pictures) > alone + 0.1


def test_nothing_is_lost_by_the_kills(fleet: Fleet, bundle: Path) -> None:
    rounds = fleet.rounds()
    assert [one["round"] for one in rounds] == list(range(1, ROUNDS + 1))
    last = {board["board"] for board in rounds[-1]["boards"]}
    assert last == set(DIGITS)
    manifest = mobiletl.open_bundle(bundle).manifest
    _, info = load_state(fleet.server / "state.safetensors", manifest)
    assert info.epoch == ROUNDS


def test_its_state_is_one_to_go_on_from(
    fleet: Fleet, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    former = mobiletl.Former(fleet.server)
    data = pictures / "all" / "train"
    outcome = mobiletl.train(bundle, data, tmp_path / "run", epochs=1, former=former, threads=1)
    assert outcome.position.before is not None
    assert outcome.position.before.accuracy > 0.9


def test_no_board_has_pytorch() -> None:
    from runtime_tests.support.fleet_processes import PYTHON

    assert not list(PYTHON.parent.parent.glob("lib/python*/site-packages/torch"))
