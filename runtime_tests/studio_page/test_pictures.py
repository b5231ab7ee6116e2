"""Pictures on the page: from files, looked through, moved, deleted; classes renamed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from runtime_tests.support.studio_visitor import Visitor, until

Visit = Callable[..., Any]
PAGE = 60


@pytest.fixture
def filled(visit: Visit, camera: Path) -> Visitor:
    """A page without a camera, with 40 pictures of flowers and 3 of temples in the project."""
    visitor, _ = visit(camera_flags=False)
    for name, count in (("flower", 40), ("temple", 3)):
        visitor.add_class(name)
        visitor.upload(name, sorted(camera.glob(f"*-{name}-*"))[:count])
    return visitor


@pytest.mark.slow
def test_pictures_are_moved_and_deleted(filled: Visitor) -> None:
    visitor, page = filled, filled.page
    visitor.card("flower").get_by_role("link").click()
    expect(page.get_by_role("heading", name="flower:")).to_be_visible()
    boxes = page.get_by_role("checkbox")
    expect(boxes).to_have_count(40)
    for at in (0, 1):
        boxes.nth(at).check()
    expect(page.locator(".tools")).to_contain_text("2 selected")
    page.get_by_role("button", name="Delete the selected pictures").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete the selected pictures").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(boxes).to_have_count(38)
    boxes.nth(0).check()
    page.get_by_label("Class to move to").select_option("temple")
    page.get_by_role("button", name="Move", exact=True).click()
    expect(boxes).to_have_count(37)
    assert visitor.barriers() == []
    # The address says which class is seen: a reload shows it again, "back" leads home.
    page.reload()
    expect(boxes).to_have_count(37)
    page.go_back()
    expect(visitor.card("flower").locator(".count")).to_contain_text("37")
    expect(visitor.card("temple").locator(".count")).to_contain_text("4")


@pytest.mark.slow
def test_a_class_of_many_pictures_has_pages(visit: Visit, camera: Path) -> None:
    visitor, _ = visit(camera_flags=False)
    page = visitor.page
    visitor.add_class("mixed")
    visitor.upload("mixed", sorted(camera.iterdir())[: PAGE + 10])
    visitor.card("mixed").get_by_role("link").click()
    boxes = page.get_by_role("checkbox")
    expect(boxes).to_have_count(PAGE)
    page.get_by_role("button", name="Older").click()
    expect(boxes).to_have_count(10)
    page.get_by_role("button", name="Select all here").click()
    page.get_by_role("button", name="Delete the selected pictures").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    # The second page is gone, so the first one is seen.
    expect(boxes).to_have_count(PAGE)
    expect(page.locator(".pager")).to_be_hidden()


@pytest.mark.slow
def test_classes_are_renamed_and_deleted(filled: Visitor) -> None:
    visitor, page = filled, filled.page
    visitor.add_class("nothing")
    expect(page.locator(".next")).to_contain_text("For nothing:")
    rename(visitor, "nothing", "no 'thing' & all")
    expect(visitor.card("no 'thing' & all")).to_be_visible()
    # What the board refuses is said in its own words.
    visitor.expected = ("Failed to load resource",)
    rename(visitor, "no 'thing' & all", "no/thing")
    expect(page.get_by_role("alert")).to_contain_text("has / in it")
    page.get_by_role("button", name="Close the message").click()
    expect(page.get_by_role("alert")).to_be_empty()
    card = visitor.card("no 'thing' & all")
    card.get_by_role("button", name="Delete no 'thing' & all").click()
    card.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".card")).to_have_count(2)


def rename(visitor: Visitor, name: str, to: str) -> None:
    visitor.card(name).get_by_role("button", name=f"{name}, rename").click()
    visitor.page.get_by_label(f"New name of {name}").fill(to)
    visitor.page.keyboard.press("Enter")


@pytest.mark.slow
def test_what_is_no_picture_is_named(filled: Visitor, camera: Path, tmp_path: Path) -> None:
    visitor = filled
    bad = tmp_path / "not <i>a picture.jpg"
    bad.write_bytes(b"text")
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    flowers = sorted(camera.glob("*-flower-*"))
    temple = sorted(camera.glob("*-temple-*"))[20]
    visitor.expected = ("Failed to load resource",)
    said = visitor.upload("temple", [temple, bad, film, flowers[0]])
    assert "1 picture added, 1 already there, 2 not taken." in said
    assert bad.name in said
    assert "film.mp4: is no picture" in said
    until(lambda: visitor.count("temple"), lambda count: count == 4, 10)


@pytest.mark.slow
def test_pictures_are_dropped_on_a_card(filled: Visitor, camera: Path) -> None:
    visitor = filled
    picture = sorted(camera.glob("*-temple-*"))[30]
    dropped = visitor.page.evaluate_handle(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
          return transfer;
        }""",
        base64.b64encode(picture.read_bytes()).decode("ascii"),
    )
    visitor.card("temple").dispatch_event("drop", {"dataTransfer": dropped})
    until(lambda: visitor.count("temple"), lambda count: count == 4, 10)
