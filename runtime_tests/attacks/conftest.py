"""One worker for each file of attacks. ATTACK_SEED draws other cases, ATTACK_CASES is how many."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from runtime_tests.attacks.arena import Arena
from runtime_tests.attacks.harness import worker
from runtime_tests.attacks.runs import prepare


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("attacks")
    with worker(folder) as started:
        yield Arena(folder, started, prepare(folder, started))


@pytest.fixture
def drawn() -> random.Random:
    return random.Random(int(os.environ.get("ATTACK_SEED", "0")))
