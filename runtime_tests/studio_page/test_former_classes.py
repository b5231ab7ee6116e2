"""A version that was made before the classes were changed is known as such on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

Visit = Callable[..., Any]


def test_a_version_of_other_classes_says_which_it_does_not_know(visit: Visit, camera: Path) -> None:
    visitor, _ = visit(viewport={"width": 390, "height": 844})
    page = visitor.page
    for name in ("flower", "temple"):
        visitor.add_class(name)
        visitor.upload(name, sorted(camera.glob(f"*-{name}-*"))[:4])
    page.get_by_role("button", name="Keep as a version").click()
    version = page.locator(".versions .version").first
    version.get_by_role("button", name="Use").click()
    expect(version).to_contain_text("in use")
    line = page.locator("#answer .former p")
    expect(line).to_be_empty()

    rename(visitor, "flower", "tulip")
    expect(line).to_contain_text("does not know 'tulip', and still says 'flower'")
    visitor.add_class("cup")
    expect(line).to_contain_text("does not know 'cup' and 'tulip', and still says 'flower'")
    assert line.get_attribute("role") == "status"
    assert visitor.barriers() == []
    assert visitor.nothing_is_cut_off()
    page.locator("#answer").get_by_role("link", name="Train").click()
    expect(page.get_by_role("heading", name="Train", exact=True)).to_be_focused()
    page.get_by_role("button", name="Answer live").click()
    expect(line).to_be_empty()
    expect(page.locator(".bars")).to_contain_text("tulip", timeout=15_000)


def rename(visitor: Any, name: str, to: str) -> None:
    page = visitor.page
    page.get_by_role("button", name=f"{name}, rename").click()
    page.get_by_label(f"New name of {name}").fill(to)
    page.keyboard.press("Enter")
    expect(visitor.card(to)).to_be_visible()
