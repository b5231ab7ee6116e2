"""The table of exit codes against the classes that carry them."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from mobiletl.device import errors

TABLE = Path(__file__).parents[2] / "docs" / "exit-codes.md"
HOST_ONLY = {"UnsupportedModel", "BadWeights", "NoNetwork"}


def documented() -> dict[str, int]:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| .+\. \|$", TABLE.read_text(), flags=re.MULTILINE)
    return {name: int(code) for code, name in rows}


def defined(module: ModuleType) -> dict[str, int]:
    return {
        name: kind.exit_code
        for name, kind in vars(module).items()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and name != "MobileTLError"
    }


def test_table_lists_every_device_error() -> None:
    rows = documented()
    assert defined(errors) == {name: rows[name] for name in rows if name not in HOST_ONLY}


def test_table_lists_every_host_error() -> None:
    pytest.importorskip("torch")
    host = pytest.importorskip("mobiletl.core.errors")
    rows = documented()
    for name, code in defined(host).items():
        assert rows[name] == code
    assert set(defined(host)) >= HOST_ONLY


def test_codes_differ_and_every_row_has_a_sentence() -> None:
    lines = [line for line in TABLE.read_text().splitlines() if re.match(r"\| \d", line)]
    codes = [line.split("|")[1] for line in lines]
    assert len(codes) == len(set(codes)) == len(documented()) + 1  # 0 has no class
    assert all(line.endswith(". |") for line in lines)


def test_every_error_is_of_the_one_tree() -> None:
    kinds = [getattr(errors, name) for name in defined(errors)]
    assert all(issubclass(kind, errors.MobileTLError) for kind in kinds)
