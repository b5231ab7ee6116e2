"""Training on the page: watched, reloaded, stopped, used, reviewed, taken home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect
from studio_demo import SCENES

from runtime_tests.support.studio_visitor import Hold, Visitor, by_finger, by_mouse, until
from tools.finished import label_of

NAMES = [scene.name for scene in SCENES]
PICTURES = 20
EPOCHS = 20
TRAINS_SECONDS = 180
DESK: dict[str, Any] = {"viewport": {"width": 1200, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}

Visit = Callable[..., Any]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("device", ["desk", "phone"])
def test_training_and_all_that_follows(
    visit: Visit, tmp_path: Path, camera: Path, device: str
) -> None:
    context, hold = (PHONE, by_finger) if device == "phone" else (DESK, by_mouse)
    visitor, studio = visit("--host", "0.0.0.0", **context)
    page = visitor.page
    pair(visitor, studio.code)
    visitor.teach(NAMES, PICTURES, hold)
    # The camera stays in sight while its classes are recorded, and nothing is cut off.
    assert page.locator("#stage").bounding_box()["y"] >= 0  # type: ignore[index]
    assert visitor.nothing_is_cut_off()
    planted = sorted(camera.glob("*-temple-*"))[5:35:15]
    visitor.upload("flower", planted)

    train(page)
    watch(page)
    assert visitor.nothing_is_cut_off()
    version = page.locator(".versions .version").first
    expect(version).to_contain_text("Trained")
    expect(version).to_contain_text("% right")
    use = version.get_by_role("button", name="Use")
    if use.is_visible():
        use.click()
    expect(version).to_contain_text("in use")
    expect(page.locator("#answer")).to_contain_text("Trained version")
    assert visitor.barriers() == []
    for name in NAMES:
        visitor.sees_right_label(name)

    network = download(page, "Download ONNX", tmp_path)
    for name in NAMES:
        picture = sorted(camera.glob(f"*-{name}-*"))[21]
        assert picture not in planted
        assert label_of(network, picture) == name
    assert download(page, "Download the state", tmp_path).suffix == ".safetensors"

    review(visitor, len(planted))

    one_more_class(visitor, hold)


def one_more_class(visitor: Visitor, hold: Hold) -> None:
    """Add a class in the place of another one, record it, and have it answered, live and kept."""
    page = visitor.page
    new, former = "something new", NAMES[-1]
    visitor.add_class(new)
    expect(page.get_by_role("button", name="Train anew")).to_be_disabled()
    expect(page.locator("#why-not")).to_contain_text(f"{new} has no pictures")
    card = visitor.card(former)
    card.get_by_role("button", name=f"Delete {former}").click()
    card.get_by_role("button", name="Delete", exact=True).click()
    expect(card).to_have_count(0)
    visitor.record(new, PICTURES, hold, scene=former)
    expect(page.get_by_role("button", name="Train anew")).to_be_enabled()
    # The trained version is of before.
    words = page.locator("#answer .former p")
    expect(words).to_contain_text(f"does not know '{new}', and still says '{former}'")
    page.get_by_role("button", name="Answer live").click()
    expect(words).to_be_empty()
    visitor.sees_right_label(new, scene=former)
    page.get_by_role("button", name="Keep as a version").click()
    version = page.locator(".versions .version").first
    expect(version).to_contain_text("Taught")
    version.get_by_role("button", name="Use").click()
    expect(page.locator("#answer")).to_contain_text("Taught version")
    visitor.sees_right_label(new, scene=former)
    visitor.sees_right_label(NAMES[0])
    assert visitor.nothing_is_cut_off()


def pair(visitor: Visitor, code: str) -> None:
    """Try a wrong code, then the right one as the terminal shows it."""
    page = visitor.page
    assert visitor.barriers() == []
    visitor.expected = ("403",)
    page.get_by_label("Code").fill("0000 0000")
    page.get_by_role("button", name="Pair").click()
    expect(page.get_by_role("alert")).to_contain_text("not the code")
    visitor.pair(f"{code[:4]} {code[4:]}")
    visitor.expected = ()


def review(visitor: Visitor, planted: int) -> None:
    """Open the review of the newest version, and mend two of the planted wrong labels there."""
    page = visitor.page
    flowers, temples = visitor.count("flower"), visitor.count("temple")
    page.get_by_role("link", name="Review").first.click()
    expect(page.get_by_role("heading", name="Class by class")).to_be_visible(timeout=120_000)
    assert visitor.barriers() == []
    assert visitor.nothing_is_cut_off()
    suspects = page.locator(".suspects").first.locator("li")
    planted_ones = suspects.filter(has_text="labelled flower").filter(has_text="said temple")
    # A flower that is hard to tell may stand among them.
    expect(planted_ones.nth(planted - 1)).to_be_visible()
    planted_ones.first.get_by_role("button", name="Move to temple").click()
    expect(planted_ones.first).to_contain_text("Moved to temple")
    planted_ones.nth(1).get_by_role("button", name="Delete").click()
    expect(planted_ones.nth(1)).to_contain_text("Deleted")
    page.get_by_role("link", name="Back to the classes").click()
    until(lambda: visitor.count("flower"), lambda count: count == flowers - 2, 10)
    until(lambda: visitor.count("temple"), lambda count: count == temples + 1, 10)


def train(page: Page) -> None:
    """Start a training, reload the page, and see it finish."""
    page.get_by_label("Epochs").fill(str(EPOCHS))
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#training")).to_contain_text("Training, epoch", timeout=90_000)
    page.reload()
    expect(page.locator("#training .status")).to_contain_text("epoch", timeout=30_000)


def watch(page: Page) -> None:
    panel = page.locator("#training")
    # What is planned and what is measured stand in columns of their own.
    assert panel.locator(".memory thead").inner_text().split() == ["planned", "measured"]
    expect(panel).to_contain_text("Finished", timeout=TRAINS_SECONDS * 1000)
    memory = panel.locator(".memory tbody").inner_text().replace("\xa0", " ").split()
    assert memory[0] == "Memory"
    assert float(memory[1]) > 0
    assert float(memory[3]) > 0
    panel.locator("summary").click()
    assert panel.locator("details tbody tr").count() == EPOCHS + 1  # one is before the first
    assert "%" in panel.locator(".status").inner_text()
    assert panel.locator("svg path.val").count() == 2


def download(page: Page, name: str, folder: Path) -> Path:
    with page.expect_download(timeout=120_000) as begun:
        page.get_by_role("button", name=name).first.click()
    path = folder / begun.value.suggested_filename
    begun.value.save_as(path)
    return path


def test_a_training_is_stopped_and_goes_on(visit: Visit, camera: Path) -> None:
    visitor, _ = visit(camera_flags=False)
    page = visitor.page
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    for name in NAMES[:2]:
        visitor.add_class(name)
        visitor.upload(name, sorted(camera.glob(f"*-{name}-*"))[:12])
    page.get_by_label("Epochs").fill("300")
    page.get_by_role("button", name="Start training").click()
    panel = page.locator("#training")
    expect(panel).to_contain_text("Training, epoch", timeout=90_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(panel).to_contain_text("Stopped", timeout=60_000)
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(panel).to_contain_text("Training, epoch", timeout=90_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(panel).to_contain_text("Nothing is lost", timeout=60_000)
    # With other pictures it cannot go on, which is said, and what can be done.
    go_on = page.get_by_role("button", name="Go on", exact=True)
    expect(go_on).to_be_visible()
    visitor.upload(NAMES[0], sorted(camera.glob(f"*-{NAMES[0]}-*"))[12:13])
    expect(panel).to_contain_text("It cannot go on.")
    expect(panel).to_contain_text(f"'{NAMES[0]}' had 12 and has 13")
    expect(go_on).to_be_hidden()
    page.get_by_label("Epochs").fill("1")
    page.get_by_role("button", name="Train anew").click()
    expect(panel).to_contain_text("Finished", timeout=90_000)
