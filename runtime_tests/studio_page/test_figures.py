"""The pictures of docs/studio.md are made here, of the page as it is.

    MOBILETL_FIGURES=docs/figures .venv/bin/python -m pytest runtime_tests/studio_page -k figures

Without the variable they are made and thrown away.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect
from studio_demo import SCENES

from runtime_tests.support.board.shared_files import REPOSITORY

MOST_BYTES = 150_000
COLOURS = 128
NAMES = [scene.name for scene in SCENES]
DESK = {"width": 1200, "height": 860}
PHONE = {"width": 390, "height": 844}

Visit = Callable[..., Any]


@pytest.mark.slow
def test_figures(visit: Visit, camera: Path, tmp_path: Path) -> None:
    folder = REPOSITORY / os.environ.get("MOBILETL_FIGURES", str(tmp_path))
    planted = sorted(camera.glob("*-temple-*"))[5:35:16]
    visitor, _ = visit(viewport=DESK, reduced_motion="reduce")
    page = visitor.page
    visitor.wait_for_scene("flower", steady=0.5)
    keep(page, folder / "studio-empty.png")
    for name in NAMES:
        visitor.add_class(name)
        frames = sorted(camera.glob(f"*-{name}-*"))[::2]
        # Two wrong labels, for the review to find.
        visitor.upload(name, frames + planted if name == "flower" else frames)
        visitor.card(name).get_by_role("button", name="Close").click()
    page.locator("h1").hover()
    visitor.sees_right_label("temple")
    keep(page, folder / "studio-taught.png")

    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.get_by_label("Epochs").fill("40")
    page.get_by_role("button", name="Start training").click()
    fifth = re.compile(r"epoch ([5-9]|\d\d) of")
    expect(page.locator("#training .status")).to_have_text(fifth, timeout=120_000)
    page.locator("#training-title").scroll_into_view_if_needed()
    page.locator("#training-title").evaluate("(title) => title.scrollIntoView()")
    keep(page, folder / "studio-training.png")
    expect(page.locator("#training")).to_contain_text("Finished", timeout=180_000)

    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.get_by_role("link", name="Review").first.click()
    expect(page.get_by_role("heading", name="Class by class")).to_be_visible(timeout=120_000)
    # High enough for the wrong labels that it found.
    page.set_viewport_size({"width": DESK["width"], "height": 1100})
    keep(page, folder / "studio-review.png")
    page.get_by_role("link", name="Back to the classes").click()

    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.evaluate("window.scrollTo(0, 0)")
    visitor.sees_right_label("flower")
    keep(page, folder / "studio-phone.png")


def keep(page: Page, path: Path) -> None:
    """Save what is seen as a small picture."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES
