"""What a function really allocates against what the manifest says it will."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from runtime_tests.support.allocation_counter import Peak, build, peaks
from runtime_tests.support.exported_bundles import Case, exported

BATCH, CLASSES = 8, 10
# The promise is 1.3. With a small network the results, the runtime's own lists of shapes and
# malloc's rounding are a few percent; nothing of the plan may be memory that is never taken.
MOST, LEAST = 1.10, 0.97
# Not all of a convolution's copies live at once: on small maps a tenth of the plan is not taken.
LEAST_OF_STATED = 0.88
Measure = Callable[[Case], dict[str, Peak]]
FUNCTIONS = ("features", "train_step", "predict")
EMBEDDED = tuple(Case(method, 3) for method in ("mobiletl", "ft-blocks"))
REAL = tuple(Case(method, 3, real=True, resolution=224) for method in ("mobiletl", "ft-blocks"))
IN_TIERS = [
    *(pytest.param(case, id=str(case)) for case in EMBEDDED),
    *(pytest.param(case, id=str(case), marks=pytest.mark.slow) for case in REAL),
]


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("counter"))


@pytest.fixture(scope="module")
def measure(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """One process per bundle, started when a test first asks."""

    @cache
    def once(case: Case) -> dict[str, Peak]:
        return peaks(counter, exported(tmp_path_factory, case), BATCH, CLASSES)

    return once


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", IN_TIERS)
def test_a_function_allocates_what_is_planned(case: Case, function: str, measure: Measure) -> None:
    peak = measure(case)[function]
    assert LEAST <= peak.ratio <= MOST, f"measured / planned = {peak.ratio:.3f}, {peak}"


@pytest.mark.parametrize(
    ("cases", "least"),
    # At 64 px and width 0.35 the weights' gradients, which both methods need, are most of it.
    [pytest.param(REAL, 0.40, marks=pytest.mark.slow), (EMBEDDED, 0.15)],
    ids=["real", "embedded"],
)
def test_mobiletl_allocates_less_than_exact_fine_tuning(
    cases: tuple[Case, Case], least: float, measure: Measure
) -> None:
    ours, exact = (measure(case)["train_step"] for case in cases)
    saved = 1 - ours.measured / exact.measured
    assert saved >= least, f"saves {saved:.1%}: {ours.measured} against {exact.measured} bytes"


@pytest.mark.parametrize(
    ("case", "most"),
    [
        pytest.param(REAL[0], 0.65, marks=pytest.mark.slow),
        pytest.param(REAL[1], 0.40, marks=pytest.mark.slow),
        # The map of a block is as small as its kernels there.
        (EMBEDDED[0], 0.95),
    ],
    ids=str,
)
def test_maps_in_bytes_allocate_less(case: Case, most: float, measure: Measure) -> None:
    """And what is planned: the floats are dead before the backward pass begins."""
    floats, in_bytes = (
        measure(one)["train_step"] for one in (case, replace(case, saved="eight-bit"))
    )
    assert LEAST <= in_bytes.ratio <= MOST, in_bytes
    assert in_bytes.measured <= most * floats.measured, (in_bytes, floats)


@pytest.mark.parametrize(
    ("case", "most"),
    [
        pytest.param(REAL[0], 0.60, marks=pytest.mark.slow),
        # One kernel's gradient is most of it there, and that is float32.
        (EMBEDDED[0], 1.0),
    ],
    ids=str,
)
def test_a_step_on_bytes_allocates_less(case: Case, most: float, measure: Measure) -> None:
    """And what is planned, operators of onnxruntime's own included."""
    floats, on_bytes = (measure(one)["train_step"] for one in (case, replace(case, step="int8")))
    assert LEAST <= on_bytes.ratio <= MOST, on_bytes
    assert on_bytes.measured <= most * floats.measured, (on_bytes, floats)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*EMBEDDED, *REAL], ids=str)
def test_torchscript_allocates_what_it_states(
    case: Case, counter: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """PyTorch's convolutions copy their operands: 21 MB where stock onnxruntime's step takes 18."""
    stated = replace(case, runtimes=("onnxruntime", "torchscript"))
    bundle = exported(tmp_path_factory, stated)
    found = peaks(counter, bundle, BATCH, CLASSES, "torchscript")
    for function, peak in found.items():
        assert LEAST_OF_STATED <= peak.ratio <= MOST, f"{function}: {peak.ratio:.3f}, {peak}"


@pytest.mark.slow
def test_a_picture_more_takes_what_is_planned_in_a_whole_network(
    counter: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Side modules, group norm, pooling, resizes. Its 8559 nodes cost the runtime some 120 bytes
    each for lists of its own, whatever the batch: they are not in the plan.
    """
    bundle = exported(tmp_path_factory, Case("tinytl-lb", None))
    few, many = (peaks(counter, bundle, n, CLASSES)["train_step"] for n in (BATCH, 4 * BATCH))
    planned = many.planned - few.planned
    assert many.measured - few.measured == pytest.approx(planned, rel=0.01)
