"""The first visit, as a person makes it: from an empty page to answers, training, a download."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect
from studio_demo import SCENES

from runtime_tests.support.studio_visitor import Visitor, by_mouse, until

NAMES = [scene.name for scene in SCENES]
PICTURES = 20
FIRST_ANSWER_SECONDS = 90
TRAINS_SECONDS = 120

Visit = Callable[..., Any]


def teach(visitor: Visitor) -> None:
    """Make the three classes and record them."""
    for name in NAMES:
        visitor.add_class(name)
    visitor.record_as_seen(PICTURES, by_mouse)


def train(page: Page, epochs: int) -> None:
    page.get_by_label("Epochs").fill(str(epochs))
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#training")).to_contain_text("Training", timeout=30_000)


def test_from_an_empty_page_to_the_right_answer(visit: Visit) -> None:
    visitor, _ = visit()
    opened = time.monotonic()
    page = visitor.page
    expect(page.locator(".next")).to_contain_text("Name two things")
    teach(visitor)
    for name in NAMES:
        assert visitor.count(name) >= PICTURES
        visitor.sees_right_label(name)
    assert time.monotonic() - opened < FIRST_ANSWER_SECONDS
    # The bars add up, and the unknown has one.
    rows = page.locator(".bars li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == [*sorted(NAMES), "unknown"]


@pytest.mark.slow
def test_training_and_all_that_follows(visit: Visit, tmp_path: Path, camera: Path) -> None:
    visitor, studio = visit("--host", "0.0.0.0")
    page = visitor.page
    page.get_by_label("Code").fill("0000 0000")
    visitor.expected = ("403",)
    page.get_by_role("button", name="Pair").click()
    expect(page.get_by_role("alert")).to_contain_text("not the code")
    visitor.pair(f"{studio.code[:4]} {studio.code[4:]}")
    visitor.expected = ()
    teach(visitor)

    train(page, epochs=6)
    page.reload()
    panel = page.locator("#training")
    expect(panel).to_contain_text("Training, epoch", timeout=60_000)
    # What is planned and what is measured stand in columns of their own.
    assert panel.locator("thead").first.inner_text().split() == ["planned", "measured"]
    expect(panel).to_contain_text("Finished", timeout=TRAINS_SECONDS * 1000)
    memory = panel.locator(".memory tbody").inner_text().replace("\xa0", " ").split()
    assert memory[0] == "Memory"
    assert float(memory[1]) > 0
    assert float(memory[3]) > 0
    panel.locator("summary").click()
    assert panel.locator("details tbody tr").count() == 7  # before, and six epochs
    assert "%" in panel.locator(".status").inner_text()

    version = page.locator(".versions .version").first
    expect(version).to_contain_text("Trained")
    version.get_by_role("button", name="Use").click()
    expect(version).to_contain_text("in use")
    expect(page.locator("#answer")).to_contain_text("trained version")
    for name in NAMES:
        visitor.sees_right_label(name)
    with page.expect_download() as begun:
        version.get_by_role("button", name="Download ONNX").click()
    begun.value.save_as(tmp_path / "network.onnx")
    for name in NAMES:
        frame = sorted(camera.glob(f"*-{name}-*"))[20]
        assert label_of(tmp_path / "network.onnx", frame) == name
    with page.expect_download() as begun:
        version.get_by_role("button", name="Download the state").click()
    assert begun.value.suggested_filename.endswith(".safetensors")


def label_of(network: Path, picture: Path) -> str:
    """What a downloaded network says of a picture, with nothing of ours in between."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["mobiletl"])
    size = facts["input"]
    image = Image.open(picture).convert("RGB")
    grown = size["resize"] / min(image.size)
    image = image.resize((round(image.width * grown), round(image.height * grown)), 2)
    left, top = ((side - size["resolution"]) // 2 for side in image.size)
    image = image.crop((left, top, left + size["resolution"], top + size["resolution"]))
    values = (np.asarray(image, np.float32) / 255 - size["mean"]) / size["std"]
    tensor = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)
    logits = session.run(["logits"], {session.get_inputs()[0].name: tensor})[0][0]
    return str(facts["classes"][int(logits.argmax())])


@pytest.mark.slow
def test_pictures_are_moved_and_deleted(visit: Visit) -> None:
    visitor, _ = visit()
    page = visitor.page
    teach(visitor)
    before = {name: visitor.count(name) for name in NAMES}
    visitor.card("flower").get_by_role("link").click()
    expect(page.get_by_role("heading", name="flower:")).to_be_visible()
    boxes = page.get_by_role("checkbox")
    assert boxes.count() == before["flower"]
    for at in (0, 1):
        boxes.nth(at).check()
    expect(page.locator(".tools")).to_contain_text("2 selected")
    page.get_by_role("button", name="Delete the selected pictures").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete the selected pictures").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(boxes).to_have_count(before["flower"] - 2)
    boxes.nth(0).check()
    page.get_by_label("Class to move to").select_option("temple")
    page.get_by_role("button", name="Move", exact=True).click()
    expect(boxes).to_have_count(before["flower"] - 3)
    # The address says which class is seen: a reload shows it again, "back" leads home.
    page.reload()
    expect(boxes).to_have_count(before["flower"] - 3)
    page.get_by_role("link", name="Back to the classes").click()
    assert visitor.count("flower") == before["flower"] - 3
    assert visitor.count("temple") == before["temple"] + 1

    visitor.add_class("nothing")
    expect(page.locator(".next")).to_contain_text("For nothing:")
    rename(visitor, "nothing", "no 'thing' & all")
    expect(visitor.card("no 'thing' & all")).to_be_visible()
    # What the board refuses is said in its own words.
    visitor.expected = ("Failed to load resource",)
    rename(visitor, "no 'thing' & all", "no/thing")
    expect(page.get_by_role("alert")).to_contain_text("has / in it")
    visitor.expected = ()
    page.get_by_role("button", name="Close the message").click()
    expect(page.get_by_role("alert")).to_be_empty()
    card = visitor.card("no 'thing' & all")
    card.get_by_role("button", name="Delete no 'thing' & all").click()
    card.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".card")).to_have_count(len(NAMES))


def rename(visitor: Visitor, name: str, to: str) -> None:
    visitor.card(name).get_by_role("button", name=f"{name}, rename").click()
    visitor.page.get_by_label(f"New name of {name}").fill(to)
    visitor.page.keyboard.press("Enter")


@pytest.mark.slow
def test_files_are_uploaded_and_what_is_no_picture_is_named(
    visit: Visit, camera: Path, tmp_path: Path
) -> None:
    visitor, _ = visit()
    page = visitor.page
    visitor.add_class("flower")
    bad = tmp_path / "not <i>a picture.jpg"
    bad.write_bytes(b"text")
    files = [str(path) for path in sorted(camera.glob("*-flower-*"))[:5]]
    visitor.expected = ("Failed to load resource",)
    with page.expect_file_chooser() as chosen:
        visitor.card("flower").get_by_role("button", name="Upload pictures to flower").click()
    chosen.value.set_files([*files, str(bad), files[0]])
    card = visitor.card("flower")
    expect(card.locator(".upload")).to_contain_text("not taken", timeout=20_000)
    visitor.expected = ()
    said = card.locator(".upload").inner_text().replace("\xa0", " ")
    assert "5 pictures added, 1 already there, 1 not taken." in said
    assert bad.name in said
    until(lambda: visitor.count("flower"), lambda count: count == 5, 10)
