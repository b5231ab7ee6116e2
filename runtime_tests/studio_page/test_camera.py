"""A camera that is lost or covered is seen as such on the page, which goes on with it by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cv2")
pytest.importorskip("playwright")

from playwright.sync_api import Locator, Page, expect

from runtime_tests.support.board.mjpeg_server import MjpegServer
from runtime_tests.support.studio_visitor import Visitor, by_mouse, until

Visit = Callable[..., Any]
# As Chromium complains of what the board refuses on purpose.
CONFLICT = ("409",)


@pytest.fixture
def network_camera() -> Iterator[MjpegServer]:
    with MjpegServer() as running:
        yield running


def taught(visit: Visit, address: str, pictures: Path, *flags: str, **context: Any) -> Visitor:
    """A page of a studio that answers what its network camera gives."""
    visitor, _ = visit("--camera", address, *flags, camera_flags=False, **context)
    for name in ("flower", "temple"):
        visitor.add_class(name)
        visitor.upload(name, sorted(pictures.glob(f"*-{name}-*"))[:4])
    expect(visitor.page.locator(".bars li")).to_have_count(3, timeout=30_000)
    assert isinstance(visitor, Visitor)
    return visitor


def record_of(page: Page) -> Locator:
    return page.get_by_role("button", name="Hold to record flower")


def heard(page: Page) -> str:
    """What screen readers are told of the camera."""
    return page.locator(".stage [role=status]").last.inner_text()


@pytest.mark.parametrize("width", [1200, pytest.param(390, marks=pytest.mark.slow)])
def test_a_lost_camera_is_seen_as_lost(
    visit: Visit, camera: Path, network_camera: MjpegServer, width: int
) -> None:
    viewport = {"width": width, "height": 844}
    visitor = taught(visit, network_camera.address, camera, viewport=viewport)
    page = visitor.page
    stage, picture = page.locator(".stage"), page.locator("img.live")
    expect(page.locator(".overlay")).to_be_visible()
    expect(record_of(page)).to_be_enabled()
    network_camera.kill()
    expect(stage.locator(".empty")).to_contain_text("it is tried again", timeout=15_000)
    assert "it is tried again" in heard(page)
    expect(page.locator(".bars")).to_be_hidden()
    expect(page.locator(".overlay")).to_be_hidden()
    expect(page.locator("#answer")).not_to_contain_text("answers/s")
    expect(record_of(page)).to_be_disabled()
    # The last picture stays, visibly of the past, and the words on it are not cut off.
    expect(picture).to_be_visible()
    assert float(picture.evaluate("(image) => getComputedStyle(image).opacity")) < 0.5
    inner, outer = stage.locator(".empty").bounding_box(), stage.bounding_box()
    assert inner is not None
    assert outer is not None
    assert inner["y"] >= outer["y"]
    assert inner["y"] + inner["height"] <= outer["y"] + outer["height"]
    assert visitor.nothing_is_cut_off()
    assert visitor.barriers() == []
    network_camera.start()
    expect(page.locator(".bars")).to_be_visible(timeout=30_000)
    expect(page.locator(".overlay")).to_be_visible()
    expect(stage.locator(".empty")).to_be_hidden()
    expect(record_of(page)).to_be_enabled()
    expect(page.locator(".remark")).to_contain_text("is back")


def test_a_recording_ends_with_the_camera(
    visit: Visit, camera: Path, network_camera: MjpegServer
) -> None:
    visitor = taught(visit, network_camera.address, camera)
    page = visitor.page
    visitor.expected = CONFLICT
    with by_mouse(visitor, record_of(page)):
        expect(page.locator(".recording")).to_have_text("Recording flower")
        network_camera.kill()
        expect(page.locator("#alerts")).to_contain_text("it is tried again", timeout=15_000)
    expect(page.locator(".recording")).to_be_hidden()


def test_black_pictures_and_another_size_are_said_while_the_camera_is_live(
    visit: Visit, camera: Path, network_camera: MjpegServer
) -> None:
    network_camera.kill()
    network_camera.start("--black")
    visitor = taught(visit, network_camera.address, camera, "--camera-size", "1280x720")
    page = visitor.page
    remark = page.locator(".remark")
    expect(remark).to_contain_text("are black", timeout=15_000)
    expect(remark).to_contain_text("not the 1280 x 720 that were asked for")
    assert "are black" in heard(page)
    before = visitor.count("flower")
    with by_mouse(visitor, record_of(page)):
        expect(page.locator(".recording")).to_contain_text("black pictures are left out")
        expect(remark).to_contain_text("Black pictures are left out.")
    visitor.settle()
    assert visitor.count("flower") == before
    assert visitor.barriers() == []
    assert visitor.nothing_is_cut_off()
    network_camera.kill()
    network_camera.start()
    until(remark.inner_text, lambda words: "black" not in words and "1280" in words, 40)
