"""A data set keeps the view of its pictures; what is damaged or differs is said on one line."""

from __future__ import annotations

import json

import pytest

from mobiletl.device.bundle.view import AskedView, View
from mobiletl.device.errors import BadPictures, NoSpace, UsageError
from mobiletl.device.pictures.dataset import open_dataset
from mobiletl.device.pictures.kept_view import load_view, save_view, settled_view, view_file
from runtime_tests.support.board.picture_folders import write_pictures

TURNED = View(90, (0.25, 0.0, 0.5, 1.0))


def test_is_kept_and_found_by_the_data_set(tmp_path):
    write_pictures(tmp_path, {"cat": 3, "dog": 3})
    assert open_dataset(tmp_path, 0.2, 0).view is None
    save_view(tmp_path, TURNED)
    found = open_dataset(tmp_path, 0.2, 0)
    assert found.view == TURNED
    assert open_dataset(tmp_path, 0.2, 0, known=("cow",)).view == TURNED
    assert found.class_names == ("cat", "dog")
    assert not found.skipped
    save_view(tmp_path, View())
    assert load_view(tmp_path) == View()
    assert [file.name for file in view_file(tmp_path).parent.iterdir()] == ["view.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "no UTF-8"),
        (b"[" * 9000, "nested deeper"),
        (b"null", "no view"),
        (b'{"rotate": 45, "region": [0, 0, 1, 1]}', "rotate: expected 0 or 90"),
        (b'{"rotate": 90, "region": [0, 0, 1]}', "expected 4 elements"),
        (b'{"rotate": 90, "region": [0.5, 0, 0.6, 1]}', "roi is 0.5,0,0.6,1"),
        (b'{"rotate": 90, "region": [0, 0, NaN, 1]}', "NaN is not JSON"),
        (b" " * 20_000, "expected at most 10000"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content, reason):
    write_pictures(tmp_path, {"cat": 3, "dog": 3})
    file = view_file(tmp_path)
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(BadPictures) as refused:
        open_dataset(tmp_path, 0.2, 0)
    message = str(refused.value)
    assert reason in message
    assert "\n" not in message
    assert len(message) < 600


def test_a_folder_in_its_place_is_damage(tmp_path):
    view_file(tmp_path).mkdir(parents=True)
    with pytest.raises(BadPictures, match="is damaged"):
        load_view(tmp_path)


def test_where_it_cannot_be_written_is_said(tmp_path):
    (tmp_path / ".mobiletl").write_text("in the way")
    with pytest.raises(NoSpace, match="cannot be written"):
        save_view(tmp_path, TURNED)


def test_more_pictures_take_the_view_of_the_first(tmp_path):
    assert settled_view(tmp_path, AskedView(90, TURNED.region)) == TURNED
    assert settled_view(tmp_path, AskedView()) == TURNED
    # One flag says nothing of the other.
    assert settled_view(tmp_path, AskedView(90)) == TURNED
    assert settled_view(tmp_path, AskedView(region=TURNED.region)) == TURNED
    with pytest.raises(UsageError, match=r"taken with --rotate 90 --roi 0.25,0,0.5,1"):
        settled_view(tmp_path, AskedView(0))
    other = tmp_path / "other"
    assert settled_view(other, AskedView()) == View()
    assert json.loads(view_file(other).read_text()) == {"rotate": 0, "region": [0, 0, 1, 1]}
