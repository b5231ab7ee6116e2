"""Feature maps: micro-batches, unreadable pictures, and a cache that is whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import InternalError, NoSpace
from mobiletl.device.features import cache as feature_cache
from mobiletl.device.features.cache import CachePlan, cache_path, open_cache
from mobiletl.device.features.live import LiveFeatures, OnUnreadable, Preparation
from mobiletl.device.pictures.dataset import Picture, open_dataset
from mobiletl.device.run.stop import StopRequested
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from runtime_tests.support.board.picture_folders import damage, write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


class Setting:
    """Seven pictures, of which the third cannot be decoded, and a session to look at them."""

    def __init__(self, folder: Path) -> None:
        bundle = open_bundle(write_tiny_bundle(folder / "bundle", graphs=False))
        self.manifest: Manifest = bundle.manifest
        self.root = write_pictures(folder / "photos", {"a": 4, "b": 4})
        damage(self.root / "a" / "002.png")
        dataset = open_dataset(self.root, 0.2, 0)
        self.pictures: list[Picture] = sorted(
            dataset.train + dataset.val, key=lambda picture: picture.path
        )[:7]
        self.session: Session = open_session(bundle, 2, bundle.initial_state(2, 0), 1, "fake")
        self.unreadable: dict[int, str] = {}
        self.built = 0

    def live(
        self, report: OnUnreadable, micro_batch: int = 1, augment: bool = False
    ) -> LiveFeatures:
        self.built += 1
        preparation = Preparation(self.manifest.input, 5 if augment else None)
        return LiveFeatures(
            self.session,
            lambda row: frame_of(self.root / self.pictures[row].path),
            preparation,
            report,
            micro_batch,
        )

    def note(self, row: int, reason: str) -> None:
        self.unreadable[row] = reason

    def plan(self, group: int = 1) -> CachePlan:
        return CachePlan(
            7,
            self.manifest.feature.shape,
            lambda report: self.live(report, group),
            lambda done, total: None,
            group,
        )

    def path(self, folder: Path) -> Path:
        return cache_path(folder, "train", self.manifest.id, "fake", self.pictures)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def empty(rows: int) -> Floats:
    return np.full((rows, 6, 2, 2), np.nan, np.float32)


def features(source: object, rows: list[int], epoch: int = 0) -> tuple[list[int], Floats]:
    out = empty(len(rows))
    written = source.fill(rows, epoch, out)  # type: ignore[attr-defined]
    return written, out[: len(written)]


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_rows_come_in_order_whatever_the_micro_batch(setting: Setting, micro_batch: int) -> None:
    rows = [6, 0, 2, 5, 1]
    written, found = features(setting.live(setting.note, micro_batch), rows)
    assert written == [6, 0, 5, 1]
    for place, row in enumerate(written):
        alone = features(setting.live(setting.note), [row])[1]
        np.testing.assert_array_equal(found[place], alone[0])
    assert list(setting.unreadable) == [2]


def test_the_prefix_never_sees_more_than_the_micro_batch(setting: Setting) -> None:
    seen: list[int] = []

    class Watching(type(setting.session)):  # type: ignore[misc]
        def features(self, images: Floats) -> Floats:
            seen.append(len(images))
            return super().features(images)  # type: ignore[no-any-return]

    setting.session.__class__ = Watching
    features(setting.live(setting.note, 2), [0, 1, 3, 4, 5])
    assert seen == [2, 2, 1]


def test_augmented_features_follow_the_epoch(setting: Setting) -> None:
    live = setting.live(setting.note, augment=True)
    first, second = features(live, [0, 1], 1)[1], features(live, [0, 1], 2)[1]
    assert (first != second).any()
    np.testing.assert_array_equal(first, features(live, [0, 1], 1)[1])
    # A picture's crop does not depend on its place in the batch.
    np.testing.assert_array_equal(first[1], features(live, [1], 1)[1][0])


@pytest.mark.parametrize("group", [1, 3])
def test_cache_holds_what_live_features_give(setting: Setting, tmp_path: Path, group: int) -> None:
    cached = open_cache(setting.path(tmp_path), setting.plan(group), setting.note)
    rows = [6, 2, 0, 5, 1]
    written, found = features(cached, rows)
    assert written == [6, 0, 5, 1]
    np.testing.assert_array_equal(found, features(setting.live(setting.note), rows)[1])
    cached.close()


def test_cache_is_built_once_and_remembers_what_is_unreadable(
    setting: Setting, tmp_path: Path
) -> None:
    path = setting.path(tmp_path / "new" / "folder")
    open_cache(path, setting.plan(), setting.note).close()
    assert setting.built == 1
    first = dict(setting.unreadable)
    setting.unreadable.clear()
    open_cache(path, setting.plan(), setting.note).close()
    assert setting.built == 1
    assert setting.unreadable == first
    assert list(first) == [2]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("harm", ["cut", "flip", "zero", "empty", "longer"])
def test_damaged_cache_is_built_again(setting: Setting, tmp_path: Path, harm: str) -> None:
    path = setting.path(tmp_path)
    open_cache(path, setting.plan(), setting.note).close()
    sound = path.read_bytes()
    harmed = {
        "cut": sound[:-5],
        "flip": sound[:40] + bytes([sound[40] ^ 1]) + sound[41:],
        "zero": bytes(len(sound)),
        "empty": b"",
        "longer": sound + b"\x00",
    }
    path.write_bytes(harmed[harm])
    open_cache(path, setting.plan(), setting.note).close()
    assert setting.built == 2
    assert path.read_bytes() == sound


def test_another_picture_bundle_or_runtime_is_another_cache(
    setting: Setting, tmp_path: Path
) -> None:
    first = setting.path(tmp_path)
    names = {
        first,
        cache_path(tmp_path, "val", setting.manifest.id, "fake", setting.pictures),
        cache_path(tmp_path, "train", "0" * 64, "fake", setting.pictures),
        cache_path(tmp_path, "train", setting.manifest.id, "onnxruntime", setting.pictures),
        cache_path(tmp_path, "train", setting.manifest.id, "fake", setting.pictures[::-1]),
        cache_path(tmp_path, "train", setting.manifest.id, "fake", setting.pictures[:-1]),
    }
    assert len(names) == 6
    os.utime(setting.root / setting.pictures[0].path, (1, 1))
    dataset = open_dataset(setting.root, 0.2, 0)
    setting.pictures = sorted(dataset.train + dataset.val, key=lambda p: p.path)[:7]
    assert setting.path(tmp_path) not in names


def test_stop_while_building_leaves_nothing(setting: Setting, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 7
        if done == 4:
            raise StopRequested

    plan = CachePlan(7, setting.manifest.feature.shape, setting.live, stop)
    folder = tmp_path / "cache"
    with pytest.raises(StopRequested):
        open_cache(setting.path(folder), plan, setting.note)
    assert list(folder.iterdir()) == []


def test_too_little_space_is_said_before_the_work(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NoSpace, match=r"needs 1\.0 MB .*0 MB are free.*--no-cache"):
        open_cache(setting.path(tmp_path), setting.plan(), setting.note)
    assert setting.built == 0


def test_disk_full_on_the_way(setting: Setting, tmp_path: Path) -> None:
    def full(done: int, total: int) -> None:
        if done == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plan = CachePlan(7, setting.manifest.feature.shape, setting.live, full)
    folder = tmp_path / "cache"
    with pytest.raises(NoSpace, match=r"No space left on device.*--cache DIR.*--no-cache"):
        open_cache(setting.path(folder), plan, setting.note)
    assert list(folder.iterdir()) == []


def test_folder_that_is_a_file(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSpace, match="--no-cache"):
        open_cache(setting.path(tmp_path / "file"), setting.plan(), setting.note)


def test_file_cut_while_in_use(setting: Setting, tmp_path: Path) -> None:
    cached = open_cache(setting.path(tmp_path), setting.plan(), setting.note)
    os.truncate(setting.path(tmp_path), 100)
    with pytest.raises(InternalError, match="has no row 6"):
        features(cached, [6])
    cached.close()
