"""Pages name paths of this repository that exist, and the first page stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

README_LINES = 120
IGNORED = {
    line.strip().strip("/") for line in (REPOSITORY / ".gitignore").read_text("utf-8").splitlines()
}
FOLDERS = sorted(
    entry.name
    for entry in REPOSITORY.iterdir()
    if entry.is_dir() and entry.name not in IGNORED and not entry.name.startswith(".")
)
PACKAGES = [folder for folder in FOLDERS if (REPOSITORY / folder / "py.typed").is_file()]
SOURCES = ("py", "md", "toml", "sh", "c", "cc", "cpp", "h", "txt", "yml")
# Files that pages name and that no checkout has: a bundle's, and a reader's own.
ELSEWHERE = {"requirements.txt", "mynet.py", "mymethod.py"}
# `[text](target)`, the target up to its `#section`.
LINK = re.compile(r"\]\(([^)#\s]*)[^)]*\)")
# Not inside a longer path or an address: `mbv2/device/predict.py` is a path of a bundle.
PATH = re.compile(rf"(?<![\w./~$:-])(?:{'|'.join(FOLDERS)})/[\w./*+-]*")
# A source file that stands in backticks is looked for from its page's folder and from the top.
IN_BACKTICKS = re.compile(rf"`(?!/)([\w.+/-]+\.(?:{'|'.join(SOURCES)}))`")


def pages() -> list[Path]:
    """The README, CONTRIBUTING, all of docs/ and every folder's page."""
    found = {REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"}
    found.update((REPOSITORY / "docs").rglob("*.md"))
    for folder in FOLDERS:
        found.update((REPOSITORY / folder).rglob("README.md"))
    return sorted(found)


def linked(text: str) -> set[str]:
    """Targets of Markdown links, other sites and places on the same page left out."""
    return {target for target in LINK.findall(text) if target and "://" not in target}


def named(text: str) -> set[str]:
    """Paths that start with a folder of this repository; a sentence's full stop is no part."""
    return {path.rstrip(".") for path in PATH.findall(text)}


def in_backticks(text: str) -> set[str]:
    """Source files that are all there is between two backticks."""
    return set(IN_BACKTICKS.findall(text)) - ELSEWHERE


def exists(path: str, *homes: Path) -> bool:
    """Whether one of `homes` has it; `*` stands for part of a name."""
    return any(any(home.glob(path)) if "*" in path else (home / path).exists() for home in homes)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    missing = {target for target in linked(text) if not exists(target, page.parent)}
    paths = named(text) | in_backticks(text)
    missing |= {path for path in paths if not exists(path, REPOSITORY, page.parent)}
    assert not missing, f"{page.relative_to(REPOSITORY)} names what is not there: {missing}"


def test_every_extra_that_is_named_can_be_installed() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    sources = [path for folder in PACKAGES for path in (REPOSITORY / folder).rglob("*.py")]
    for path in [*pages(), *sources]:
        for name in re.findall(r"mobiletl\[(\w+)\]", path.read_text("utf-8")):
            assert re.search(rf"^{name} = \[", project, re.M), f"{path}: mobiletl[{name}]"


def test_the_first_page_stays_short() -> None:
    lines = (REPOSITORY / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= README_LINES


def test_what_is_found_in_a_text() -> None:
    text = (
        "Read `core/rows.py`, docs/no-such.md. Not mbv2/device/predict.py, nor "
        "https://example.org/docs/x.md; [a](docs/a.md#b), [c](#d), [e](https://example.org) `f.py`."
    )
    assert named(text) == {"core/rows.py", "docs/no-such.md", "docs/a.md"}
    assert linked(text) == {"docs/a.md"}
    assert in_backticks(text) == {"core/rows.py", "f.py"}
    assert exists("core/rows.py", REPOSITORY)
    assert exists("core/*.py", REPOSITORY)
    assert not exists("docs/no-such.md", REPOSITORY)
    assert not exists("docs/no-such-*.md", REPOSITORY)
