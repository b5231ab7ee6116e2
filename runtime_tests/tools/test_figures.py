"""`make figures`: every file is written, and what is committed is what the code computes now."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import figures
import pytest
from figure_tables import TITLES
from PIL import Image

from runtime_tests.support.board.shared_files import REPOSITORY

COMMITTED = REPOSITORY / "docs" / "figures"
LARGEST_BYTES = 60_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("figures") / "new" / "folder"
    assert sorted(figures.write(out)) == sorted(out.iterdir())
    return out


@pytest.mark.slow
@pytest.mark.parametrize("drawing", figures.DRAWINGS, ids=lambda drawing: drawing.name)
def test_committed_tables_are_what_the_code_computes(
    drawing: figures.Drawing, written: Path
) -> None:
    name = f"{drawing.name}.csv"
    assert (COMMITTED / name).read_text("utf-8") == (written / name).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("drawing", figures.DRAWINGS, ids=lambda drawing: drawing.name)
def test_tables_label_their_convention_and_name_sources(
    drawing: figures.Drawing, written: Path
) -> None:
    titles, *rows = csv.reader(io.StringIO((written / f"{drawing.name}.csv").read_text("utf-8")))
    assert tuple(titles) == TITLES
    numbers = [title for title in titles if title.startswith(("published", "ours"))]
    assert all(title.endswith("(paper accounting)") for title in numbers)
    assert len(rows) == len(drawing.rows())
    for row in rows:
        *_, published, ours, source = row
        assert bool(published) == bool(source)
        assert float(ours) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("drawing", figures.DRAWINGS, ids=lambda drawing: drawing.name)
def test_pictures_are_small_and_the_same_every_time(
    drawing: figures.Drawing, written: Path, tmp_path: Path
) -> None:
    picture = written / f"{drawing.name}.png"
    assert picture.stat().st_size < LARGEST_BYTES
    assert (COMMITTED / picture.name).stat().st_size < LARGEST_BYTES
    again = tmp_path / picture.name
    figures.save_png(drawing.draw(drawing.rows()), again)
    assert again.read_bytes() == picture.read_bytes()
    with Image.open(picture) as image:
        assert min(image.size) > 300


def test_every_figure_is_committed() -> None:
    names = {
        f"{drawing.name}{suffix}" for drawing in figures.DRAWINGS for suffix in (".csv", ".png")
    }
    assert {path.name for path in COMMITTED.iterdir()} >= names
