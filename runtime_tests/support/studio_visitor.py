"""A person in front of the studio's page: looks at the picture, presses buttons, reads.

Everything goes through the page as Chromium shows it. The person tells the scenes of the demo's
camera apart by their colours, and knows nothing of when they change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, Request, expect
from studio_demo import SCENES

T = TypeVar("T")
MOST_TABS = 120
LOOKED_AT = 24  # frames of each scene of which a person remembers the colours
# The mean colour of the picture that is on the page now, null while there is none.
EYE = """() => {
  const image = document.querySelector("img.live");
  if (!image.naturalWidth || !image.offsetParent) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 16;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, 16, 16);
  const values = context.getImageData(0, 0, 16, 16).data;
  const sums = [0, 0, 0];
  values.forEach((value, at) => { if (at % 4 < 3) sums[at % 4] += value; });
  return sums.map((sum) => sum / 256);
}"""
BROKEN_RULES = """() => {
  window.brokenRules = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    window.brokenRules.push(`${event.violatedDirective} ${event.blockedURI}`);
  });
}"""


def _colours() -> dict[str, NDArray[np.float64]]:
    """The mean colours of frames of each scene, f64[frames,3]."""
    return {
        scene.name: np.array(
            [np.asarray(frame, np.float64).mean(axis=(0, 1)) for frame in scene.frames(LOOKED_AT)]
        )
        for scene in SCENES
    }


@dataclass
class Visitor:
    """Drives one page; `troubles` has whatever a console, a policy or a strange request said."""

    page: Page
    address: str
    troubles: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of console lines that a test has brought about on purpose."""

    def __post_init__(self) -> None:
        self._colours = _colours()
        self.page.add_init_script(f"({BROKEN_RULES})()")
        self.page.on("console", self._hear_console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("request", self._hear_request)

    def _hear_console(self, message: Any) -> None:
        line = f"{message.type}: {message.text}"
        if message.type in ("error", "warning") and not any(one in line for one in self.expected):
            self.troubles.append(line)

    def _hear_request(self, request: Request) -> None:
        if not request.url.startswith((self.address + "/", "blob:")):
            self.troubles.append(f"asked somebody else: {request.url}")

    def check(self) -> None:
        """The page has complained of nothing, and asked nobody but the board."""
        self.troubles += self.page.evaluate("window.brokenRules")
        assert not self.troubles, self.troubles

    def open(self, path: str = "/") -> None:
        self.page.goto(self.address + path)

    def pair(self, code: str) -> None:
        self.page.get_by_label("Code").fill(code)
        self.page.get_by_role("button", name="Pair").click()
        expect(self.page.get_by_role("heading", name="Classes")).to_be_visible()

    # --- looking

    def scene(self) -> str | None:
        """What the picture on the page shows; None while there is none."""
        seen = self.page.evaluate(EYE)
        if seen is None:
            return None

        def distance(name: str) -> float:
            return float(np.abs(self._colours[name] - np.array(seen)).sum(axis=1).min())

        return min(self._colours, key=distance)

    def wait_for_scene(self, name: str, steady: float = 0.0, seconds: float = 60) -> None:
        """Wait until the picture shows `name` and has shown it for `steady` seconds."""
        since: float | None = None
        until = time.monotonic() + seconds
        while since is None or time.monotonic() - since < steady:
            assert time.monotonic() < until, f"no {name} was seen"
            if self.scene() != name:
                since = None
            elif since is None:
                since = time.monotonic()
            self.page.wait_for_timeout(50)

    def label(self) -> str:
        """The large label over the picture."""
        overlay = self.page.locator(".overlay .label")
        return overlay.inner_text() if overlay.is_visible() else ""

    def sees_right_label(self, name: str, seconds: float = 60, scene: str = "") -> None:
        """Wait for a scene, called as the class or `scene`, of which the label has been the right
        one for a while.
        """
        scene = scene or name
        until = time.monotonic() + seconds
        while True:
            self.wait_for_scene(scene, steady=1.0, seconds=seconds)
            said, still = self.label(), self.scene()
            if said == name and still == scene:
                return
            assert time.monotonic() < until, f"the label is {said!r} where the picture is {scene}"

    # --- classes

    def card(self, name: str) -> Locator:
        heading = self.page.get_by_role("button", name=f"{name}, rename", exact=True)
        return self.page.locator(".card").filter(has=heading)

    def count(self, name: str) -> int:
        words = self.card(name).locator(".count").inner_text()
        return int(words.split("\xa0")[0])

    def add_class(self, name: str) -> None:
        self.page.get_by_label("New class").fill(name)
        self.page.get_by_role("button", name="Add class").click()
        expect(self.card(name)).to_be_visible()

    def record(self, name: str, pictures: int, hold: Hold, scene: str = "") -> None:
        """Hold a class's button while its scene is on, until it has so many pictures.

        The scene is called as the class is, or `scene`.
        """
        scene = scene or name
        button = self.card(name).get_by_role("button", name=f"Hold to record {name}", exact=True)
        while self.count(name) < pictures:
            self.wait_for_scene(scene, steady=0.2)
            with hold(self, button):
                while self.scene() == scene and self.count(name) < pictures:
                    self.page.wait_for_timeout(50)
        self.settle()

    def settle(self) -> None:
        """Wait until what was on its way when a button was let go is counted, too."""
        expect(self.page.locator(".stage .recording")).to_be_hidden(timeout=10_000)
        self.page.wait_for_timeout(500)

    def teach(self, names: list[str], pictures: int, hold: Hold) -> None:
        """Make classes and record them."""
        for name in names:
            self.add_class(name)
        self.record_as_seen(pictures, hold)

    def upload(self, name: str, files: Sequence[Path]) -> str:
        """Choose files for a class; what the page says of them in the end."""
        card = self.card(name)
        with self.page.expect_file_chooser() as chosen:
            card.get_by_role("button", name=f"Upload pictures to {name}").click()
        chosen.value.set_files([str(file) for file in files])
        expect(card.locator(".upload progress")).to_be_hidden(timeout=60_000)
        expect(card.locator(".upload")).to_be_visible()
        return card.locator(".upload").inner_text().replace("\xa0", " ")

    def nothing_is_cut_off(self) -> bool:
        """Whether all of the page fits its width; a phone would show it smaller, else."""
        size = self.page.viewport_size
        assert size is not None
        wide = "Math.max(window.innerWidth, document.documentElement.scrollWidth)"
        return int(self.page.evaluate(wide)) <= size["width"]

    # --- without eyes or a mouse

    def barriers(self) -> list[str]:
        """What axe-core, a checker of accessibility, finds in the page as it is now."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['help']} ({node['html'][:120]})"
            for one in found
            for node in one["nodes"]
        ]

    def focused(self) -> str:
        """The name of what has the focus."""
        return str(
            self.page.evaluate(
                "(({activeElement: at}) => at.getAttribute('aria-label') "
                "|| (at.labels && at.labels.length ? at.labels[0].textContent : at.textContent)"
                ".trim())(document)"
            )
        )

    def tab_to(self, name: str, back: bool = False) -> None:
        """Press Tab until something of this name has the focus."""
        passed = []
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
            passed.append(self.focused())
            if passed[-1] == name:
                return
        raise AssertionError(f"{name!r} is not reached by Tab, only {sorted(set(passed))}")

    def record_as_seen(self, pictures: int, hold: Hold) -> None:
        """Record every class, whichever scene comes first."""
        lacking = {scene.name for scene in SCENES}
        while lacking:
            seen = until(self.scene, lambda name: name in lacking, 60)
            assert seen is not None
            self.record(seen, pictures, hold)
            lacking.remove(seen)


Hold = Callable[[Visitor, Locator], Any]


@contextmanager
def by_mouse(visitor: Visitor, button: Locator) -> Iterator[None]:
    """Hold a button with the mouse; once more where the page has moved below it meanwhile."""
    for _ in range(3):
        button.hover()
        visitor.page.mouse.down()
        if button.evaluate("(element) => element.matches(':active')"):
            break
        visitor.page.mouse.up()
    try:
        yield
    finally:
        visitor.page.mouse.up()


@contextmanager
def by_key(visitor: Visitor, button: Locator, key: str = " ") -> Iterator[None]:
    """Hold a button with a key of the keyboard."""
    button.focus()
    visitor.page.keyboard.down(key)
    try:
        yield
    finally:
        visitor.page.keyboard.up(key)


@contextmanager
def by_finger(visitor: Visitor, button: Locator) -> Iterator[None]:
    """Hold a button with a finger, on a page that was opened with touch."""
    button.evaluate("(element) => element.scrollIntoView({block: 'center'})")
    box = button.bounding_box()
    assert box is not None
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    under = "([x, y]) => document.elementFromPoint(x, y).textContent"
    assert visitor.page.evaluate(under, list(point.values())) == button.inner_text()
    chromium = visitor.page.context.new_cdp_session(visitor.page)
    touch = "Input.dispatchTouchEvent"
    chromium.send(touch, {"type": "touchStart", "touchPoints": [point]})
    try:
        yield
    finally:
        chromium.send(touch, {"type": "touchEnd", "touchPoints": []})
        chromium.detach()


def until(find: Callable[[], T], good: Callable[[T], bool], seconds: float) -> T:
    """Ask again and again until the answer is good."""
    end = time.monotonic() + seconds
    while True:
        found = find()
        if good(found):
            return found
        assert time.monotonic() < end, f"still {found!r} after {seconds} s"
        time.sleep(0.05)
