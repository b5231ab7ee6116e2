"""The pages on methods say what the accounting says, and every method has one."""

from __future__ import annotations

import re

import pytest
from figure_tables import whole_account
from published import MB, MILLION

from mobiletl.core.methods import METHODS, Method
from runtime_tests.support.board.shared_files import REPOSITORY

PAGES = REPOSITORY / "docs" / "methods"
README = (PAGES / "README.md").read_text("utf-8")
FIGURE = (REPOSITORY / "docs" / "figures" / "memory-proxyless.csv").read_text("utf-8")
WITH_COSTS = ("mobiletl", "ft-blocks", "ft-last", "ft-bias", "ft-bn", "ft-all")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("method", WITH_COSTS)
def test_costs_on_a_page_are_what_the_code_computes(method: str) -> None:
    lines = (PAGES / f"{method}.md").read_text("utf-8").splitlines()
    (start,) = (place for place, line in enumerate(lines) if "| paper accounting" in line)
    rows = {
        name: values for name, *values in (cells(line) for line in lines[start + 2 : start + 7])
    }
    for column, title in enumerate(cells(lines[start])[1:]):
        count = re.fullmatch(r"paper accounting(?:, (\d+) blocks?)?", title)
        assert count is not None
        it = whole_account("mbv2", method, int(count[1]) if count[1] else None, 10)
        found = {
            "trained parameters, millions": f"{it.trained_parameters / MILLION:.3f}",
            "stored activations, MB": f"{it.stored_bytes / MB:.1f}",
            "training memory, MB": f"{it.training_memory_bytes / MB:.1f}",
            "multiply-adds forward, 1e9": f"{it.forward_macs / 1e9:.2f}",
            "multiply-adds backward, 1e9": f"{it.backward_macs / 1e9:.2f}",
        }
        assert found == {name: values[column] for name, values in rows.items()}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_has_its_row_and_its_page(method: Method) -> None:
    name = method.name
    (row,) = (line for line in README.splitlines() if line.startswith(f"| [{name}]("))
    page = re.match(r"\| \[[^]]+\]\(([^)]+)\)", row)
    assert page is not None
    assert (PAGES / page[1]).is_file()
    megabytes, _, blocks = cells(row)[-1].partition(" ")
    subject = blocks.strip("()")
    (line,) = (line for line in FIGURE.splitlines() if line.startswith(f"{subject},{name},"))
    published, ours = line.split(",")[4:6]
    assert published == "" or float(published) > 0
    assert megabytes == f"{float(ours):.1f}"
