"""Some of many pictures: of every class as many, and none left out."""

import numpy as np

from mobiletl.device.pictures.balanced import balanced_rows


def test_every_class_gives_as_many() -> None:
    labels = np.repeat([0, 1, 2], [1000, 400, 20])
    rows = balanced_rows(labels, range(1420), 0, 512)
    assert rows == sorted(set(rows))
    assert np.bincount(labels[rows]).tolist() == [246, 246, 20]
    assert rows == balanced_rows(labels, range(1420), 0, 512)
    assert rows != balanced_rows(labels, range(1420), 1, 512)


def test_what_is_left_over_goes_to_classes_by_chance() -> None:
    labels = np.repeat(np.arange(10), 50)
    extra = [np.bincount(labels[balanced_rows(labels, range(500), s, 15)]) for s in range(40)]
    assert all(counts.sum() == 15 and counts.min() == 1 for counts in extra)
    assert (np.sum(extra, axis=0) > 45).all()


def test_of_few_pictures_all_are_taken() -> None:
    labels = np.array([1, 0, 1, 2, 2])
    assert balanced_rows(labels, [0, 1, 2, 3], 5, 9) == [0, 1, 2, 3]


def test_no_class_is_left_out_where_there_are_more_than_rows() -> None:
    labels = np.array([0] * 50 + [1] * 5 + [2])
    assert set(labels[balanced_rows(labels, range(56), 0, 1)]) == {0, 1, 2}
