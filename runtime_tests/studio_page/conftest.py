"""A browser, a bundle, a camera and a studio for the tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
RATE = 10
SCENE_SECONDS = 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; the tests that want one are skipped where it is missing."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # A sandbox needs a user that is not root.
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real pictures that is played as a camera, three scenes of 4 seconds."""
    from studio_demo import write_camera

    folder = tmp_path_factory.mktemp("camera")
    write_camera(folder, SCENE_SECONDS, RATE)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded backbone's."""
    from runtime_tests.support.exported_bundles import Case, exported

    return exported(tmp_path_factory, Case("mobiletl", 3))


@pytest.fixture
def visit(browser: Any, bundle: Path, camera: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`visit(*flags, **context)` starts a studio and opens its page: a visitor and a studio.

    Without `open_page` it is a studio alone; `context` is what Playwright makes a window of.

    What the page complained of fails the test in the end.
    """
    from runtime_tests.support.studio_server import studio
    from runtime_tests.support.studio_visitor import Visitor

    with ExitStack() as open_ones:
        visitors = []

        def start(
            *flags: str, camera_flags: bool = True, open_page: bool = True, **context: Any
        ) -> Any:
            seen = ("--camera", str(camera), "--camera-rate", str(RATE)) if camera_flags else ()
            serving = open_ones.enter_context(
                studio(bundle, tmp_path / "project", "--port", "0", *seen, *flags)
            )
            if not open_page:
                return serving
            page = open_ones.enter_context(browser.new_context(**context)).new_page()
            visitor = Visitor(page, serving.address)
            visitors.append(visitor)
            visitor.open()
            return visitor, serving

        yield start
        for visitor in visitors:
            visitor.check()
