"""A fleet of real processes on loopback: TLS, keys, no PyTorch, four boards with pictures each.

The aim: as good as one training on all pictures, within two points, and better than any board
alone, though a board and the server are killed on the way.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import mobiletl
from mobiletl.device.bundle.state_file import load_state
from runtime_tests.support.exported_bundles import Case, exported
from runtime_tests.support.fleet_processes import (
    DIGITS,
    Fleet,
    needs_fleet_env,
    write_cifar,
    write_digits,
)

pytestmark = [pytest.mark.slow, needs_fleet_env]

CLASSES = ",".join(str(digit) for digit in range(10))
CIFAR_CLASSES = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
# Flower sends a masked number of 32 bits as 64.
MASKED_BYTES = 8
WITHIN = 0.02


@dataclass(frozen=True)
class World:
    """Pictures that four boards share out, and how long the fleet trains on them."""

    write: Callable[[Path], None]
    classes: str
    rounds: int
    epochs: int
    lr: float
    reaches: float
    """An accuracy that the fleet's state has at least, for who goes on from it."""


WORLDS = {
    "digits": World(write_digits, CLASSES, 16, 4, 0.001, 0.9),
    "cifar10": World(write_cifar, CIFAR_CLASSES, 8, 1, 0.0003, 0.7),
}


@pytest.fixture(scope="module", params=["digits", pytest.param("cifar10", marks=pytest.mark.long)])
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet-bundle")
    return Path(
        shutil.copytree(exported(tmp_path_factory, Case("mobiletl", 3, "adam")), folder / "copied")
    )


@pytest.fixture(scope="module")
def pictures(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet-pictures")
    world.write(folder)
    return folder


def accuracy(bundle: Path, state: Path, pictures: Path) -> float:
    files = sorted(file for file in (pictures / "all" / "val").rglob("*") if file.is_file())
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
def fleet(
    world: World, bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    """A fleet that has come to its end, with a board and the server killed in the middle."""
    with Fleet(tmp_path_factory.mktemp("fleet"), bundle) as one:
        settings = (
            "--bundle",
            bundle,
            "--classes",
            world.classes,
            "--boards",
            len(DIGITS),
            "--rounds",
            world.rounds,
            "--epochs",
            world.epochs,
            "--lr",
            world.lr,
            "--round-seconds",
            300,
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


def test_nothing_is_lost_by_the_kills(world: World, fleet: Fleet, bundle: Path) -> None:
    rounds = fleet.rounds()
    assert [one["round"] for one in rounds] == list(range(1, world.rounds + 1))
    last = {board["board"] for board in rounds[-1]["boards"]}
    assert last == set(DIGITS)
    manifest = mobiletl.open_bundle(bundle).manifest
    _, info = load_state(fleet.server / "state.safetensors", manifest)
    assert info.epoch == world.rounds


def test_its_state_is_one_to_go_on_from(
    world: World, fleet: Fleet, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    former = mobiletl.Former(fleet.server)
    data = pictures / "all" / "train"
    outcome = mobiletl.train(bundle, data, tmp_path / "run", epochs=1, former=former, threads=1)
    assert outcome.position.before is not None
    assert outcome.position.before.accuracy > world.reaches


def test_a_server_that_sees_sums_alone(bundle: Path, tmp_path: Path) -> None:
    """Boards that refuse anything else, one of which is lost in the second round."""
    write_digits(tmp_path / "pictures")
    with Fleet(tmp_path, bundle) as one:
        settings = ("--bundle", bundle, "--classes", CLASSES, "--boards", 4, "--rounds", 4)
        one.serve(*settings, "--epochs", 2, "--lr", 0.001, "--round-seconds", 120, "--secagg")
        for board in DIGITS:
            one.join(board, tmp_path / "pictures" / board, "--only-sums")
        one.wait_for_round(1)
        one.kill("porch")
        one.join("porch", tmp_path / "pictures" / "porch", "--only-sums")
        assert one.finish(600) == 0, one.logs()
        rounds = one.rounds()
    assert len(rounds[0]["boards"]) == 4
    assert {board["board"] for board in rounds[-1]["boards"]} == set(DIGITS)
    numbers = rounds[0]["boards"][0]["bytes-up"] / MASKED_BYTES
    assert numbers == rounds[0]["boards"][0]["bytes-down"] / 4
    assert accuracy(bundle, one.server / "state.safetensors", tmp_path / "pictures") > 0.8


def test_no_board_has_pytorch() -> None:
    from runtime_tests.support.fleet_processes import PYTHON

    assert not list(PYTHON.parent.parent.glob("lib/python*/site-packages/torch"))
