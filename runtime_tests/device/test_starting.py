"""Starting a process beside products of matrices: who waits for whom."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from mobiletl.device.starting import multiplying, started

# As a studio does it: one thread solves for classifiers, another one starts trainings.
PRODUCTS_AND_STARTS = """
import threading
import time
import numpy as np
from mobiletl.device.starting import multiplying, started

ended = threading.Event()

def products():
    rows = np.random.default_rng(0).normal(size=(200, 1280))
    while not ended.is_set():
        with multiplying():
            np.linalg.eigh(rows @ rows.T)

thread = threading.Thread(target=products)
thread.start()
end = time.monotonic() + 15
while time.monotonic() < end:
    started(["true"], start_new_session=True).wait()
ended.set()
thread.join()
"""


def test_no_product_waits_for_ever() -> None:
    """Python 3.8 and OpenBLAS hung within 600 bare starts, or 10 s."""
    code = ["-c", PRODUCTS_AND_STARTS]
    assert subprocess.run([sys.executable, *code], timeout=300, check=False).returncode == 0


def test_a_start_waits_for_the_product_and_comes_before_the_next() -> None:
    came, begun = [], threading.Event()

    def start() -> None:
        begun.set()
        with started(["true"]):
            came.append("start")

    starting = threading.Thread(target=start)
    with multiplying(), multiplying():
        starting.start()
        begun.wait()
        time.sleep(0.1)  # were it not to wait, it would have started by now
        came.append("product")
    starting.join()
    with multiplying():
        came.append("next")
    assert came == ["product", "start", "next"]


def test_products_do_not_wait_for_each_other() -> None:
    inside = threading.Barrier(2, timeout=30)

    def product() -> None:
        with multiplying():
            inside.wait()

    other = threading.Thread(target=product)
    other.start()
    product()
    other.join()
    assert not inside.broken


def test_what_cannot_be_started_holds_nobody_up() -> None:
    with pytest.raises(OSError, match="nowhere"):
        started(["/nowhere/at/all"])
    with multiplying():
        pass
