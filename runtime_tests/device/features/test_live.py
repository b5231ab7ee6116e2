"""Feature maps of pictures: micro-batches, unreadable pictures, and none computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.frame import Frame, frame_of
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import NoSpace
from mobiletl.device.features import parts
from mobiletl.device.features.live import Keeping, KnownPicture, LiveFeatures
from mobiletl.device.features.maps import Maps
from mobiletl.device.features.parts import Parts, SourcePlan, open_parts, worth_keeping
from mobiletl.device.features.quantised import Codec
from mobiletl.device.features.store import FeatureStore, store_path
from mobiletl.device.features.views import FRESH, ONLY_CENTRAL, Views, views
from mobiletl.device.pictures.dataset import Picture, open_dataset
from mobiletl.device.pictures.skipped import SkippedFiles
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
        self.dataset = open_dataset(self.root, 0.2, 0)
        self.pictures: list[Picture] = sorted(
            self.dataset.train + self.dataset.val, key=lambda picture: picture.path
        )[:7]
        self.session: Session = open_session(bundle, 2, bundle.initial_state(2, 0), 1, "fake")
        self.batches: list[int] = []
        features = self.session.features

        def watched(images: Floats) -> Floats:
            self.batches.append(len(images))
            return features(images)

        self.session.features = watched  # type: ignore[method-assign]
        self.unreadable: list[int] = []

    def frame(self, row: int) -> Frame:
        return frame_of(self.root / self.pictures[row].path)

    def live(self, turns: Views = ONLY_CENTRAL, micro_batch: int = 1, **kept: Any) -> LiveFeatures:
        def look(row: int) -> KnownPicture:
            frame = self.frame(row)
            return KnownPicture(frame.identity(), lambda: frame, "ab"[row // 4], turns)

        def note(row: int, reason: str) -> None:
            self.unreadable.append(row)

        keeping = Keeping(**kept)
        return LiveFeatures(self.session, self.manifest.input, look, note, micro_batch, keeping)

    def plan(self, turns: Views, cache: Path | None) -> SourcePlan:
        return SourcePlan(self.session, self.manifest, turns, 1, cache)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def features(source: Any, rows: list[int], epoch: int = 0) -> tuple[list[int], Floats]:
    out = np.full((len(rows), 6, 2, 2), np.nan, np.float32)
    written = source.fill(rows, epoch, out)
    return written, out[: len(written)]


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_rows_come_in_order_whatever_the_micro_batch(setting: Setting, micro_batch: int) -> None:
    rows = [6, 0, 2, 5, 1]
    written, found = features(setting.live(micro_batch=micro_batch), rows)
    assert written == [6, 0, 5, 1]
    for place, row in enumerate(written):
        np.testing.assert_array_equal(found[place], features(setting.live(), [row])[1][0])
    assert setting.unreadable == [2]


def test_the_prefix_never_sees_more_than_the_micro_batch(setting: Setting) -> None:
    live = setting.live(micro_batch=2)
    features(live, [0, 1, 3, 4, 5])
    assert setting.batches == [2, 2, 1]
    assert live.computed == 5


def test_features_follow_the_epoch(setting: Setting) -> None:
    live = setting.live(FRESH)
    first, second = features(live, [0, 1], 1)[1], features(live, [0, 1], 2)[1]
    assert (first != second).any()
    np.testing.assert_array_equal(first, features(live, [0, 1], 1)[1])
    # A picture's crop does not depend on its place in the batch.
    np.testing.assert_array_equal(first[1], features(live, [1], 1)[1][0])


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_maps_are_the_same_whether_kept_or_not(
    setting: Setting, tmp_path: Path, micro_batch: int
) -> None:
    codec = Codec(setting.manifest.feature.shape)
    rows = [6, 2, 0, 5, 1]
    with FeatureStore(store_path(tmp_path, setting.manifest), setting.manifest) as store:
        kept = setting.live(views(3), micro_batch, codec=codec, maps=Maps(cache=store))
        live = setting.live(views(3), codec=codec)
        for epoch in (0, 1, 2, 3, 4, 5, 6):
            written, found = features(kept, rows, epoch)
            assert written == [6, 0, 5, 1]
            np.testing.assert_array_equal(found, features(live, rows, epoch)[1])
        assert kept.computed == 3 * 4
        assert {stored.class_name for stored in store.maps()} == {"a", "b"}
        assert len(list(store.maps())) == 3 * 4
    # Not so exact as what the prefix gives, but nearly.
    exact = features(setting.live(views(3)), rows, 1)[1]
    within = (exact.max() - exact.min()) / 255
    np.testing.assert_allclose(features(live, rows, 1)[1], exact, rtol=0, atol=within)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_picture_is_decoded_once_for_all_epochs(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    codec = Codec(setting.manifest.feature.shape)
    decoded: list[str] = []
    decode = Frame.decode

    def counted(frame: Frame, short_side: int) -> Any:
        decoded.append(frame.name)
        return decode(frame, short_side)

    monkeypatch.setattr(Frame, "decode", counted)
    rows, turns = [6, 2, 0, 5, 1], views(5)
    asked: list[bool] = []

    def ahead() -> bool:
        asked.append(True)
        return len(asked) < 100

    with FeatureStore(store_path(tmp_path, setting.manifest), setting.manifest) as store:
        kept: dict[str, Any] = {"codec": codec, "maps": Maps(cache=store)}
        live = setting.live(turns, micro_batch, last_epoch=7, ahead=ahead, **kept)
        for epoch in range(1, 8):
            written, found = features(live, rows, epoch)
            assert written == [6, 0, 5, 1]
            done = len(decoded)
            np.testing.assert_array_equal(
                found, features(setting.live(turns, codec=codec), rows, epoch)[1]
            )
            del decoded[done:]
        assert live.computed == 4 * 5
        assert len(list(store.maps())) == 4 * 5
    # The damaged one is tried in every epoch.
    readable = [name for name in decoded if not name.endswith("a/002.png")]
    assert len(readable) == 4
    assert len(asked) == 4 * 4


def test_maps_of_later_epochs_wait_when_the_run_is_to_stop(
    setting: Setting, tmp_path: Path
) -> None:
    codec = Codec(setting.manifest.feature.shape)
    with FeatureStore(store_path(tmp_path, setting.manifest), setting.manifest) as store:
        live = setting.live(
            views(5), codec=codec, maps=Maps(cache=store), last_epoch=9, ahead=lambda: False
        )
        assert features(live, [0, 1], 1)[0] == [0, 1]
        assert live.computed == 2


def test_a_damaged_map_is_computed_again(setting: Setting, tmp_path: Path) -> None:
    path = store_path(tmp_path, setting.manifest)
    codec = Codec(setting.manifest.feature.shape)
    for computed in (2, 0):
        with FeatureStore(path, setting.manifest) as store:
            live = setting.live(codec=codec, maps=Maps(cache=store))
            sound = features(live, [0, 1])[1]
            assert live.computed == computed
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)
    for computed in (1, 0):
        with FeatureStore(path, setting.manifest) as store:
            live = setting.live(codec=codec, maps=Maps(cache=store))
            np.testing.assert_array_equal(features(live, [0, 1])[1], sound)
            assert live.computed == computed


def test_a_picture_that_is_gone_is_read_from_the_memory_alone(
    setting: Setting, tmp_path: Path
) -> None:
    path = tmp_path / "memory.store"
    codec = Codec(setting.manifest.feature.shape)
    identities = [setting.frame(row).identity() for row in (0, 1)]
    with FeatureStore(path, setting.manifest) as store:
        sound = features(setting.live(codec=codec, maps=Maps(cache=store)), [0, 1])[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)
    said: list[tuple[int, str]] = []
    with FeatureStore(path, setting.manifest) as store:
        gone = LiveFeatures(
            setting.session,
            setting.manifest.input,
            lambda row: KnownPicture(identities[row], None, "a", Views((0,))),
            lambda row, reason: said.append((row, reason)),
            keeping=Keeping(codec, Maps(memory=store)),
        )
        written, found = features(gone, [0, 1], 5)
    assert written == [0]
    np.testing.assert_array_equal(found[0], sound[0])
    assert said == [(1, "is gone, and its feature map is damaged")]
    assert gone.computed == 0


def train(setting: Setting, found: Parts, epochs: int) -> int:
    """See every picture in so many epochs, and return how many were computed."""
    before = len(setting.batches)
    for epoch in range(epochs + 1):
        if epoch:
            features(found.train.source, list(range(len(found.train.labels))), epoch)
        features(found.val.source, list(range(len(found.val.labels))), 0)
    return len(setting.batches) - before


def test_no_map_is_computed_twice(setting: Setting, tmp_path: Path) -> None:
    """Of 6 pictures to train on, one of them damaged, three views; of 2 to validate on, one."""
    skipped = SkippedFiles(setting.dataset)
    val = [picture for picture in setting.dataset.val if picture.path != "a/002.png"]
    expected = 3 * (7 - len(val)) + len(val)
    for computed in (expected, 0):
        with open_parts(setting.plan(views(3), tmp_path / "cache"), setting.dataset, skipped) as p:
            assert train(setting, p, 7) == computed
    with open_parts(setting.plan(views(3), None), setting.dataset, skipped) as live:
        assert train(setting, live, 7) == 7 * (7 - len(val)) + 8 * len(val)


def test_pictures_are_read_once_to_know_them(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    identity = Frame.identity

    def watched(self: Frame) -> str:
        read.append(self.name)
        return identity(self)

    monkeypatch.setattr(Frame, "identity", watched)
    skipped = SkippedFiles(setting.dataset)
    for count in (8, 0):
        with open_parts(setting.plan(views(2), tmp_path), setting.dataset, skipped) as found:
            train(setting, found, 3)
        assert len(read) == count
        read.clear()


def test_too_little_space_is_said_before_the_work(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda path: usage)
    plan = setting.plan(views(3), tmp_path)
    words = r"maps need 0\.0 MB .*\(0 MB are free\).*--cache DIR, or train with --no-cache"
    found = open_parts(plan, setting.dataset, SkippedFiles(setting.dataset))
    with pytest.raises(NoSpace, match=words) as raised, found:
        pass
    assert raised.value.exit_code == 6
    assert setting.batches == []
    with open_parts(setting.plan(views(3), None), setting.dataset, SkippedFiles(setting.dataset)):
        pass


def test_maps_larger_than_pictures_are_not_kept(setting: Setting, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "b", graphs=False, feature={"shape": [48, 2, 2]})
    manifest = open_bundle(other).manifest
    assert not worth_keeping(manifest)
    assert worth_keeping(setting.manifest)
    plan = SourcePlan(setting.session, manifest, views(3), 1, tmp_path / "cache")
    with open_parts(plan, setting.dataset, SkippedFiles(setting.dataset)):
        pass
    assert not (tmp_path / "cache").exists()
