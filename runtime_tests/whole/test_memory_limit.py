"""Training where the kernel allows no more memory than was promised."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import unpacked
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.memory.plan import plan
from mobiletl.export.writing.export_bundle import Request, export_bundle
from mobiletl.fitting.command import main as fit
from runtime_tests.support.board.shared_files import shared
from runtime_tests.support.digits import write_digits
from runtime_tests.support.exported_bundles import Case, exported
from runtime_tests.support.memory_group import (
    Ended,
    MemoryGroup,
    NoMemoryGroups,
    copied_libraries,
    memory_group,
    train_inside,
)

BATCH = 8
ABOVE_PLAN = 1.10
SMALLEST_BOARD_BYTES = 128_000_000
EMBEDDED = Case("mobiletl", 3)
REAL = Case("mobiletl", 3, real=True, resolution=224)
# Between two exports, which measure the libraries each.
DIFFERENCE_MB = 2
FIT = ("--classes", "4", "--weights", "demo")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_libraries(tmp_path_factory.mktemp("libraries"))


def train(
    group: MemoryGroup, bundle: Path, photos: Path, libraries: Path, out: Path, batch: int = BATCH
) -> Ended:
    """Train one epoch inside `group`; its report is what was printed."""
    words = [str(bundle / "device/train_on_board.py"), "--data", str(photos), "--epochs", "1"]
    words += ["--batch", str(batch), "--out", str(out / "run")]
    return train_inside(group, libraries, words, out)


@pytest.fixture
def limited() -> Iterator[None]:
    """Skips where the kernel or its owner lets nobody make a group."""
    try:
        with memory_group(SMALLEST_BOARD_BYTES):
            pass
    except NoMemoryGroups as error:
        pytest.skip(f"no memory control group to be had: {error}")
    return


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
class TestInsideALimit:
    def test_of_the_plan_and_a_tenth(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, libraries: Path
    ) -> None:
        bundle = exported(tmp_path_factory, EMBEDDED)
        limit = int(ABOVE_PLAN * planned(bundle, classes=4))
        with memory_group(limit) as group:
            done = train(group, bundle, write_digits(tmp_path / "photos"), libraries, tmp_path)
            check(done, group, limit)

    def test_of_the_plan_and_a_tenth_at_224_pixels(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, libraries: Path
    ) -> None:
        photos = unpacked(shared("data/animals4.zip"), tmp_path / "data")
        bundle = exported(tmp_path_factory, REAL)
        limit = int(ABOVE_PLAN * planned(bundle, classes=4))
        with memory_group(limit) as group:
            check(train(group, bundle, photos, libraries, tmp_path), group, limit)

    def test_of_128_megabytes(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, libraries: Path
    ) -> None:
        bundle = exported(tmp_path_factory, EMBEDDED)
        with memory_group(SMALLEST_BOARD_BYTES) as group:
            done = train(group, bundle, write_digits(tmp_path / "photos"), libraries, tmp_path)
            check(done, group, SMALLEST_BOARD_BYTES)

    def test_of_128_megabytes_at_224_pixels(self, tmp_path: Path, libraries: Path) -> None:
        """MobileNetV3-Small, the largest picture and network that such a board is meant for."""
        request = Request("mbv3-small", "none", "mobiletl", 3, 224, "sgd", tmp_path / "bundle")
        bundle = export_bundle(request)
        with memory_group(SMALLEST_BOARD_BYTES) as group:
            done = train(group, bundle, write_digits(tmp_path / "photos"), libraries, tmp_path)
            check(done, group, SMALLEST_BOARD_BYTES)

    @pytest.mark.parametrize("megabytes", [88, 96, 128])
    def test_of_what_fit_was_given(
        self,
        megabytes: int,
        tmp_path: Path,
        libraries: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        train_what_fits(megabytes * 1_000_000, tmp_path, libraries, capsys)

    def test_of_little_more_than_the_least(
        self, tmp_path: Path, libraries: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The least depends on the machine: a number that is right here is too low elsewhere."""
        assert fit([*FIT, "--memory", "40MB", "--out", str(tmp_path / "bundle")]) == 2
        least = re.search(r"the least is (\S+) MB", capsys.readouterr().err)
        assert least is not None
        limit = int(1e6 * (float(least[1]) + DIFFERENCE_MB))
        train_what_fits(limit, tmp_path, libraries, capsys)

    def test_kills_who_takes_more(self, tmp_path: Path) -> None:
        """So that the tests above test something."""
        with memory_group(SMALLEST_BOARD_BYTES) as group:
            hog = [sys.executable, "-c", f"b'x' * {SMALLEST_BOARD_BYTES}"]
            done = group.run(hog, os.environ, tmp_path)
        assert done.returncode == -signal.SIGKILL


def train_what_fits(
    limit: int, tmp_path: Path, libraries: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export what `fit` takes for a limit, and train it where the kernel allows no more."""
    bundle = tmp_path / "bundle"
    assert fit([*FIT, "--memory", str(limit), "--json", "--out", str(bundle)]) == 0
    levels = json.loads(capsys.readouterr().out)["levels"]
    (batch,) = [level["batch"] for level in levels if level["chosen"]]
    photos = write_digits(tmp_path / "photos")
    with memory_group(limit) as group:
        check(train(group, bundle, photos, libraries, tmp_path, batch), group, limit)


def planned(bundle: Path, classes: int) -> int:
    return plan(open_bundle(bundle).manifest, BATCH, classes).total_bytes


def check(done: Ended, group: MemoryGroup, limit: int) -> None:
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["last_epoch"]["epoch"] == 1
    assert report["memory"]["planned_bytes"] <= limit
    peak = group.peak_bytes()
    assert peak is None or 0 < peak <= limit
