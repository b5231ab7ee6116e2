"""The pages on methods with a frozen backbone say what the accounting says."""

from __future__ import annotations

import pytest
from figure_tables import whole_account

from runtime_tests.support.board.shared_files import REPOSITORY

PAGES = {
    "tinytl": ["tinytl-b", "tinytl-l", "tinytl-lb"],
    "repnet": ["repnet", "repnet-bias"],
    "da3": ["da3"],
}


@pytest.mark.parametrize("page", PAGES)
def test_costs_on_a_page_are_what_the_code_computes(page: str) -> None:
    text = (REPOSITORY / "docs" / "methods" / f"{page}.md").read_text("utf-8")
    accounts = [whole_account("mbv2", method, None, 10) for method in PAGES[page]]
    rows = {
        "trained parameters, millions": [f"{it.trained_parameters / 1e6:.3f}" for it in accounts],
        "stored activations, MB": [f"{it.stored_bytes / 1e6:.1f}" for it in accounts],
        "training memory, MB": [f"{it.training_memory_bytes / 1e6:.1f}" for it in accounts],
        "multiply-adds forward, 1e9": [f"{it.forward_macs / 1e9:.2f}" for it in accounts],
        "multiply-adds backward, 1e9": [f"{it.backward_macs / 1e9:.2f}" for it in accounts],
    }
    for name, values in rows.items():
        assert f"| {' | '.join([name, *values])} |" in text
