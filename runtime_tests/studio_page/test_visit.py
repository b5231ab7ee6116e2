"""The first visit, as a person makes it: from an empty page to the right answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from studio_demo import SCENES

from runtime_tests.support.studio_visitor import Hold, Visitor, by_finger, by_mouse

NAMES = [scene.name for scene in SCENES]
PICTURES = 20
FIRST_ANSWER_SECONDS = 90

Visit = Callable[..., Any]


DESK: dict[str, Any] = {"viewport": {"width": 1200, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}


@pytest.mark.parametrize(
    ("paired", "context", "hold"),
    [
        pytest.param(True, DESK, by_mouse, id="paired"),
        pytest.param(True, PHONE, by_finger, id="paired-phone", marks=pytest.mark.slow),
        pytest.param(False, DESK, by_mouse, id="loopback", marks=pytest.mark.slow),
    ],
)
def test_from_an_empty_page_to_the_right_answer(
    visit: Visit, paired: bool, context: dict[str, Any], hold: Hold
) -> None:
    visitor, studio = visit(*(("--host", "0.0.0.0") if paired else ()), **context)
    page = visitor.page
    # The address that is scanned has the code; the page must not be there already.
    page.goto("about:blank")
    opened = time.monotonic()
    visitor.open(f"/#code={studio.code}" if paired else "/")
    expect(page.locator(".next")).to_contain_text("Name two things")
    visitor.teach(NAMES, PICTURES, hold)
    for name in NAMES:
        assert visitor.count(name) >= PICTURES
        visitor.sees_right_label(name)
    took = time.monotonic() - opened
    print(f"right labels {took:.0f} s after the page was opened")
    assert took < FIRST_ANSWER_SECONDS
    rows = [row.split("\n") for row in page.locator(".bars li").all_inner_texts()]
    assert [row[0] for row in rows] == [*sorted(NAMES), "unknown"]
    shares = [int(row[1].split("\xa0")[0]) for row in rows[:-1]]
    assert 97 <= sum(shares) <= 103
    assert visitor.barriers() == []
    assert visitor.nothing_is_cut_off()


def test_names_that_look_like_markup_are_names(visit: Visit, tmp_path: Path) -> None:
    # A class that is there already may be called anything.
    name = '<img src=x onerror="document.title=1"> & <b>cat'
    (tmp_path / "project" / "pictures" / name).mkdir(parents=True)
    visitor, _ = visit(camera_flags=False)
    page = visitor.page
    expect(page.locator(".card h3 bdi")).to_have_text(name)
    assert page.locator(".card h3 img, .card h3 b").count() == 0
    expect(page.locator(".stage")).to_contain_text("no camera")
    expect(page.get_by_role("button", name="Hold to record")).to_be_disabled()
    assert page.title() != "1"


@pytest.mark.slow
def test_only_with_the_keyboard(visit: Visit) -> None:
    visitor, _ = visit()
    page, keys = visitor.page, visitor.page.keyboard
    expect(page.locator(".next")).to_be_visible()
    keys.press("Tab")
    assert visitor.focused() == "Skip to the classes"
    visitor.tab_to("New class")
    for name in NAMES:
        keys.type(name)
        keys.press("Enter")
        expect(visitor.card(name)).to_be_visible()
    for key, name in zip((" ", "Enter", " "), NAMES, strict=True):
        visitor.tab_to(f"Hold to record {name}")
        while visitor.count(name) < PICTURES:
            visitor.wait_for_scene(name, steady=0.2)
            keys.down(key)
            while visitor.scene() == name and visitor.count(name) < PICTURES:
                page.wait_for_timeout(50)
            keys.up(key)
        visitor.settle()
    visitor.sees_right_label("flower")
    tidy_up(visitor)


def tidy_up(visitor: Visitor) -> None:
    """Rename a class, and delete one of its pictures, by keys alone."""
    page, keys = visitor.page, visitor.page.keyboard
    visitor.tab_to("digit, rename")
    keys.press("Enter")
    keys.type("number")
    keys.press("Enter")
    expect(visitor.card("number")).to_be_visible()
    before = visitor.count("number")
    visitor.tab_to(f"See all {before}\xa0pictures of number")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="number:")).to_be_focused()
    visitor.tab_to("Picture 1 of number")
    keys.press(" ")
    visitor.tab_to("Delete the selected pictures", back=True)
    keys.press("Enter")
    assert visitor.focused() == "Keep"
    keys.press("Escape")
    assert visitor.focused() == "Delete the selected pictures"
    keys.press("Enter")
    visitor.tab_to("Delete", back=True)
    keys.press("Enter")
    expect(page.get_by_role("heading", name=f"number: {before - 1}")).to_be_visible()
    visitor.tab_to("Back to the classes", back=True)
    keys.press("Enter")
    expect(visitor.card("number")).to_be_visible()


@pytest.mark.slow
def test_a_server_that_restarts_loses_nothing(visit: Visit) -> None:
    visitor, studio = visit("--port", "0")
    page = visitor.page
    visitor.add_class("flower")
    visitor.record("flower", 5, by_mouse)
    before = visitor.count("flower")
    port = studio.address.rsplit(":", 1)[1]
    visitor.expected = ("Failed to load resource", "ERR_")
    studio.end()
    expect(page.locator("#connection")).to_contain_text("Connection lost", timeout=20_000)
    again = visit("--port", port, open_page=False)
    expect(page.locator("#connection")).to_be_empty(timeout=40_000)
    assert again.address == studio.address
    assert visitor.count("flower") == before
    visitor.wait_for_scene("flower")
    visitor.expected = ()
    visitor.record("flower", before + 2, by_mouse)
