"""Large files that stay out of the repository, in a folder `shared` beside it.

Tests that want real weights or pictures ask here, and are skipped where the file is missing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SHARED = REPOSITORY.parent / "shared"


def shared(relative: str) -> Path:
    """`shared("weights/x.safetensors")`: the file's path; skips the test that calls without it."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/{relative}, which is not here")
    return path
