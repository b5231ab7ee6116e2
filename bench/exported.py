"""What benches export as ours, row by row, to be set beside eager PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.eager import MODEL
from bench.speed import SIDE
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle

FLOATS, STEP = "mobiletl, floats", "mobiletl, step int8"
PREFIX, BYTES = "mobiletl, prefix int8", "mobiletl, all int8"
# What a request of each row has besides; frozen layers in bytes are calibrated on pictures.
ROWS: dict[str, dict[str, str]] = {
    FLOATS: {},
    STEP: {"step": "int8"},  # what `mobiletl export` writes by default
    PREFIX: {"prefix": "int8"},
    BYTES: {"prefix": "int8", "step": "int8"},
    "ft-blocks": {"method": "ft-blocks"},
}


def wants_pictures(row: str) -> bool:
    """Whether the row's export is calibrated."""
    return "prefix" in ROWS[row]


def export_row(row: str, weights: str, blocks: int, pictures: Path | None, folder: Path) -> Path:
    """Write the bundle of a row into `folder`; `pictures` has a folder for each class."""
    out = folder / row.replace(", ", "-").replace(" ", "-")
    request = Request(MODEL, weights, "mobiletl", blocks, SIDE, "sgd", out)
    if wants_pictures(row):
        assert pictures is not None
        request = replace(request, calibrate=pictures)
    return export_bundle(replace(request, **ROWS[row]))  # type: ignore[arg-type]  # texts all
