"""What was trained is what is seen: the view of the data set is in every state of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.bundle.view import View
from mobiletl.device.pictures.kept_view import save_view, view_file
from mobiletl.device.run.library import train
from mobiletl.device.run.options import Options
from mobiletl.device.run.stop import StopFlag
from mobiletl.device.teaching.folder import teach
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

TURNED = View(270, (0.0, 0.25, 1.0, 0.5))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    photos = write_pictures(tmp_path / "photos", {"ant": 8, "bee": 8})
    save_view(photos, TURNED)
    return bundle, photos, tmp_path / "run"


def views(bundle: Path, run: Path) -> list[View | None]:
    manifest = open_bundle(bundle).manifest
    return [load_state(file, manifest)[1].view for file in sorted(run.glob("*.safetensors"))]


def test_in_those_of_a_training_and_of_its_resumption(places: tuple[Path, Path, Path]) -> None:
    bundle, _, run = places
    train(*places, runtime="fake", epochs=2, batch=4)
    kept = views(bundle, run)
    assert len(kept) >= 2
    assert set(kept) == {TURNED}
    train(*places, resume=True)
    assert set(views(bundle, run)) == {TURNED}


def test_in_that_of_teaching(places: tuple[Path, Path, Path]) -> None:
    bundle, photos, run = places
    teach(Options(bundle, photos, run, False, {"runtime": "fake"}, threads=1), [], StopFlag())
    assert views(bundle, run) == [TURNED]


def test_pictures_from_elsewhere_have_none(places: tuple[Path, Path, Path]) -> None:
    bundle, photos, run = places
    view_file(photos).unlink()
    train(*places, runtime="fake", epochs=1, batch=4)
    assert set(views(bundle, run)) == {None}
