"""`mobiletl review`: the page, its JSON, hostile names, and runs that cannot be reviewed."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device import review, train_on_board
from mobiletl.device.run.events_file import read_events
from runtime_tests.support.board.picture_folders import damage, write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Capture = pytest.CaptureFixture[str]
HOSTILE = "<script>alert(1)</script>".replace("/", "\u2215")
TURNED = "a\u202eb\x1b[31m&\"'"
VOID = {"meta", "img", "br", "link", "hr"}


class Trained:
    """A finished run of the fake runtime on pictures of three classes."""

    def __init__(self, folder: Path, names: dict[str, int]) -> None:
        self.bundle = write_tiny_bundle(folder / "bundle", graphs=False)
        self.photos = write_pictures(folder / "photos", names)
        self.run = folder / "run"
        given = ["--bundle", str(self.bundle), "--data", str(self.photos), "--epochs", "6"]
        given += ["--out", str(self.run), "--runtime", "fake", "--val-split", "0.4"]
        assert train_on_board.main(given) == 0

    def review(self, *more: str) -> int:
        return review.main([str(self.run), "--runtime", "fake", *more])


class Page(html.parser.HTMLParser):
    """Checks that what is opened is closed, in order; keeps tags, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def trained(tmp_path: Path, capsys: Capture) -> Trained:
    found = Trained(tmp_path, {"ant": 10, "bee": 10, "cat": 10})
    capsys.readouterr()
    return found


def page_of(trained: Trained) -> Page:
    return Page((trained.run / "review.html").read_text("utf-8"))


def test_a_page_and_its_summary(trained: Trained, capsys: Capture) -> None:
    # A copy of a training picture validates; which part a picture is in, JSON says.
    assert trained.review() == 0
    text, said = capsys.readouterr()
    assert said == ""
    assert "labels to check" in text
    assert text.splitlines()[-1] == f"open {trained.run / 'review.html'}"
    page = page_of(trained)
    assert "optimistic" in page.text
    assert "18 pictures to train on and 12 to validate on, in 3 classes" in page.text
    # Everything is in the page, and nothing runs.
    assert not page.named("script")
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert not re.search(r"https?:", (trained.run / "review.html").read_text("utf-8"))
    assert page.named("html") == [{"lang": "en"}]
    targets = {link["href"] for link in page.named("a")}
    assert targets <= {f"#{heading.get('id')}" for heading in page.named("h2")}


def test_tables_and_pictures_can_be_heard(trained: Trained) -> None:
    assert trained.review() == 0
    page = page_of(trained)
    assert len(page.named("caption")) == len(page.named("table")) == 3
    assert all(cell.get("scope") in ("col", "row") for cell in page.named("th"))
    assert all(image["alt"] for image in page.named("img"))


def test_json(trained: Trained, capsys: Capture) -> None:
    copy = trained.photos / "ant" / "000.png"
    shutil.copy(copy, trained.photos / "bee" / "copy.png")
    assert trained.review("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        *("version", "run", "bundle", "data", "state", "page", "epoch", "notes", "pictures"),
        *("accuracy", "classes", "confusion", "worst", "suspects", "duplicates", "curve"),
    }
    assert [one["name"] for one in found["classes"]] == ["ant", "bee", "cat"]
    best = found["accuracy"]["best"]
    assert best["total"] == found["pictures"]["val"] == sum(map(sum, found["confusion"]))
    assert best["right"] == sum(found["confusion"][k][k] for k in range(3))
    assert best["low"] < best["share"] <= best["high"]
    assert found["accuracy"]["held_out"]["total"] == 31
    assert len(found["worst"]) == best["total"] - best["right"]
    shares = [one["label_probability"] for one in found["suspects"]]
    assert shares == sorted(shares)
    assert all(one["said"] != one["label"] for one in found["suspects"])
    # The picture with two labels is known by its content, and told of.
    pairs = found["duplicates"]["pairs"]
    assert ["ant/000.png", "bee/copy.png"] in [sorted(pair["paths"]) for pair in pairs]
    assert found["duplicates"]["two_labels"] >= 1
    assert "not the ones that the run saw" in " ".join(found["notes"])


def test_accuracy_is_the_runs_own(trained: Trained, capsys: Capture) -> None:
    """By a classifier that was solved for without the validation pictures."""
    assert trained.review("--json") == 0
    found = json.loads(capsys.readouterr().out)
    ended = read_events(trained.run / "events.jsonl")[-1]
    assert found["accuracy"]["best"]["share"] == pytest.approx(ended["kept"]["accuracy"])
    assert found["notes"] == []


def test_maps_that_the_run_kept_are_used(trained: Trained, capsys: Capture) -> None:
    assert trained.review("--json") == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept["pictures"]["computed"] == 0
    next(trained.run.glob("replay-*.store")).unlink()
    assert trained.review("--json") == 0
    computed = json.loads(capsys.readouterr().out)
    assert computed["pictures"]["computed"] == 30
    for found in (kept, computed):
        found.pop("pictures")
    assert computed["confusion"] == kept["confusion"]


def test_hostile_names_are_harmless(tmp_path: Path, capsys: Capture) -> None:
    trained = Trained(tmp_path, {HOSTILE: 8, TURNED: 8, "cat": 8})
    cats = trained.photos / "cat"
    (cats / "000.png").rename(cats / '"><img src=x onerror=a>.png')
    assert trained.review("--limit", "100") == 0
    content = (trained.run / "review.html").read_text("utf-8")
    page = Page(content)
    assert HOSTILE in page.text
    assert not page.named("script")
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert "\u202e" not in content
    assert "\x1b" not in content
    assert "\\u202e" in content


def test_a_limit_is_kept_and_said(tmp_path: Path) -> None:
    trained = Trained(tmp_path, {"ant": 12, "bee": 12, "cat": 12})
    draws = np.random.default_rng(0)
    for path in sorted(trained.photos.rglob("*.png"))[::2]:
        pixels = draws.integers(0, 256, (16, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    assert trained.review("--limit", "2") == 0
    page = page_of(trained)
    assert len(page.named("li")) <= 3 * 2 + 6
    assert "more (--limit)" in page.text


def test_a_damaged_picture_is_left_out(trained: Trained, capsys: Capture) -> None:
    damage(trained.photos / "cat" / "003.png")
    assert trained.review("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in found["pictures"]["skipped"]] == ["cat/003.png"]
    assert found["accuracy"]["held_out"]["total"] == 29


def test_a_run_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A run names folders as it was told them; they are seen from where it was started."""
    write_tiny_bundle(tmp_path / "bundle", graphs=False)
    write_pictures(tmp_path / "photos", {"ant": 6, "bee": 6})
    monkeypatch.chdir(tmp_path)
    given = ["--bundle", "bundle", "--data", "photos", "--epochs", "1", "--out", "runs/first"]
    assert train_on_board.main([*given, "--runtime", "fake"]) == 0
    assert "mobiletl review runs/first" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "photos")
    assert review.main(["../runs/first"]) == 0
    assert (tmp_path / "runs" / "first" / "review.html").is_file()
    assert not list((tmp_path / "runs" / "first").glob("*.partial"))


def complaint(trained: Trained, code: int, capsys: Capture, *more: str) -> str:
    assert trained.review(*more) == code
    text, said = capsys.readouterr()
    assert text == ""
    lines = [line for line in said.splitlines() if line.startswith("mobiletl: ")]
    assert len(lines) == 1
    return lines[0]


def test_what_is_no_run(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    trained.run = tmp_path / "nowhere"
    assert "there is no folder" in complaint(trained, 5, capsys)
    trained.run = trained.photos
    assert "holds no run" in complaint(trained, 5, capsys)


def test_a_run_without_a_state_yet(trained: Trained, capsys: Capture) -> None:
    for state in trained.run.glob("*.safetensors"):
        state.unlink()
    assert "has saved no state yet" in complaint(trained, 5, capsys)


def test_a_damaged_state(trained: Trained, capsys: Capture) -> None:
    for state in trained.run.glob("state*.safetensors"):
        damage(state)
    assert "is damaged" in complaint(trained, 5, capsys)


def test_pictures_that_moved(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    trained.photos.rename(tmp_path / "elsewhere")
    assert "say where it is now with --data DIR" in complaint(trained, 3, capsys)
    assert trained.review("--data", str(tmp_path / "elsewhere")) == 0


def test_a_bundle_that_moved(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    trained.bundle.rename(tmp_path / "other")
    assert "say where it is now with --bundle DIR" in complaint(trained, 2, capsys)
    assert trained.review("--bundle", str(tmp_path / "other")) == 0


def test_pictures_of_other_classes(trained: Trained, capsys: Capture) -> None:
    write_pictures(trained.photos, {"dog": 3})
    assert "has a class 'dog' that the run in" in complaint(trained, 3, capsys)


def test_a_run_that_does_not_say_its_pictures(trained: Trained, capsys: Capture) -> None:
    events = trained.run / "events.jsonl"
    lines = [json.loads(line) for line in events.read_text("utf-8").splitlines()]
    for line in lines:
        line.pop("data", None)
        line.pop("crc")  # of the line as it was
    events.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert "does not say its data; name --data DIR" in complaint(trained, 2, capsys)


def test_a_run_under_way_says_so(trained: Trained, capsys: Capture) -> None:
    events = trained.run / "events.jsonl"
    lines = events.read_text("utf-8").splitlines()[:-1]
    events.write_text("\n".join(lines), "utf-8")
    assert trained.review("--json") == 0
    assert "has not finished" in " ".join(json.loads(capsys.readouterr().out)["notes"])


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--limit", "-1"], "limit"),
        (["--limit", "501"], "at most 500"),
        (["--threads", "-2"], "th"),
    ],
)
def test_flags_out_of_range(trained: Trained, capsys: Capture, flags: list[str], part: str) -> None:
    assert part in complaint(trained, 2, capsys, *flags)


def test_a_page_that_cannot_be_written(trained: Trained, tmp_path: Path, capsys: Capture) -> None:
    said = complaint(trained, 6, capsys, "--out", str(tmp_path / "no" / "page.html"))
    assert "name another file with --out" in said
