"""The page's files: nothing of them comes from elsewhere, and old phones can read them."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

STATIC = REPOSITORY / "device" / "studio" / "static"
FILES = sorted(STATIC.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
PAGES = [path for path in FILES if path.suffix == ".html"]
# What the whole page may weigh, uncompressed: a second on a slow wireless network.
MOST_BYTES = 150_000
# The parser that Node itself uses: what it accepts as ES2019 a phone of 2019 runs.
PARSE = """
const { parse } = require("internal/deps/acorn/acorn/dist/acorn");
process.argv.slice(1).forEach((file) => parse(
  require("fs").readFileSync(file, "utf8"), { ecmaVersion: 2019, sourceType: "module" }));
"""


class Links(HTMLParser):
    """Collects what a page names, and what a strict policy would forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[str] = []
        self.inline: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        for name, value in attrs:
            if name in ("src", "href"):
                self.named.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_names_its_own_files_and_has_no_code_within(page: Path) -> None:
    links = Links()
    links.feed(page.read_text("utf-8"))
    assert links.inline == []
    files = [name for name in links.named if not name.startswith("#")]
    assert files
    for name in files:
        assert name.startswith("/static/")
        assert (STATIC / name[len("/static/") :]).is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_uses_what_is_there_and_makes_no_markup(script: Path) -> None:
    text = script.read_text("utf-8")
    for name in re.findall(r'from "\./([\w.]+)"', text):
        assert (STATIC / name).is_file()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    assert "alert(" not in text.replace("role", "")


def test_every_file_is_used() -> None:
    texts = {path.name: path.read_text("utf-8") for path in FILES}
    for path in FILES:
        others = "".join(text for name, text in texts.items() if name != path.name)
        used = f"/static/{path.name}" in others or f'"./{path.name}"' in others
        assert used or path.suffix == ".html", f"{path.name} is used by nothing"


def test_nothing_has_an_address_outside_the_board() -> None:
    for path in FILES:
        outside = set(re.findall(r"https?://[^\s\"')]+", path.read_text("utf-8")))
        assert outside <= {"http://www.w3.org/2000/svg"}, path.name


def test_the_page_is_light() -> None:
    assert sum(path.stat().st_size for path in FILES) < MOST_BYTES


def test_scripts_are_of_2019() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here, whose parser tells the versions of the language apart")
    command = [node, "--expose-internals", "-e", PARSE, "--", *map(str, SCRIPTS)]
    parsed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
