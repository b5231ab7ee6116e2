"""Two threads at most, for every library that asks the environment; set before any is imported."""

from __future__ import annotations

import os

THREADS = "2"

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)
