"""Runs that begin from another state than the bundle's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.run.start import Start, bundle_start, state_start
from runtime_tests.support.board.training_workshop import Workshop, assert_same_run


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def names(workshop: Workshop) -> tuple[str, ...]:
    return ("ant", "bee", "cat")


def test_the_bundles_own_state_is_the_default(workshop: Workshop) -> None:
    workshop.train(workshop.options("plain", start="random"))
    workshop.start = bundle_start(workshop.bundle, names(workshop), seed=0)
    workshop.train(workshop.options("started", start="random"))
    assert_same_run(workshop, "plain", "started")


def test_a_run_begins_where_another_ended(workshop: Workshop) -> None:
    # A classifier that is drawn leaves the best epoch as it is (settling.py).
    workshop.train(workshop.options("first", epochs=6, augment=False, start="random"))
    path = workshop.folder / "first" / "state.safetensors"
    workshop.start = state_start(path, workshop.bundle)
    first = workshop.metrics("first")
    workshop.train(workshop.options("second", epochs=1, augment=False))
    second = workshop.metrics("second")
    _, info = load_state(path, workshop.bundle.manifest)
    best = first[info.epoch]
    assert info.epoch > 0
    assert second[0]["val_loss"] == best["val_loss"] < first[0]["val_loss"]
    assert second[0]["val_accuracy"] == best["val_accuracy"]


def test_slots_of_a_former_run_are_emptied(workshop: Workshop) -> None:
    workshop.train(workshop.options("first"))
    path = workshop.folder / "first" / "state.safetensors"
    tensors, _ = load_state(path, workshop.bundle.manifest)
    start = state_start(path, workshop.bundle)
    for entry in workshop.bundle.manifest.state:
        if entry.role == "slot":
            assert not start.tensors[entry.name].any()
        else:
            np.testing.assert_array_equal(start.tensors[entry.name], tensors[entry.name])


def test_classes_in_another_order_keep_their_rows(workshop: Workshop) -> None:
    manifest = workshop.bundle.manifest
    tensors = workshop.bundle.initial_state(3, seed=5)
    turned = Start(tensors, ("cat", "ant", "bee"), "a test").for_classes(
        manifest, ("ant", "bee", "cat")
    )
    for entry in manifest.state:
        expected = tensors[entry.name]
        if entry.shape and entry.shape[0] == "K":
            expected = expected[[1, 2, 0]]
        np.testing.assert_array_equal(turned[entry.name], expected)


def test_other_classes_are_refused(workshop: Workshop) -> None:
    workshop.start = bundle_start(workshop.bundle, ("ant", "bee", "dog"), seed=0)
    with pytest.raises(BadState, match=r"lacks \['cat'\] and has \['dog'\] besides"):
        workshop.train(workshop.options("run"))
    assert not (workshop.folder / "run").exists()


def test_tensors_that_do_not_fit_are_refused(workshop: Workshop) -> None:
    start = bundle_start(workshop.bundle, names(workshop), seed=0)
    name = workshop.bundle.manifest.state[0].name
    broken = {**start.tensors, name: start.tensors[name][:, :-1]}
    workshop.start = replace(start, tensors=broken)
    with pytest.raises(BadState, match="does not fit the bundle"):
        workshop.train(workshop.options("run"))


def test_a_resumed_run_takes_no_start(workshop: Workshop) -> None:
    options = workshop.options("run")
    workshop.interrupt(options, "train_step", 2)
    workshop.start = bundle_start(workshop.bundle, names(workshop), seed=0)
    with pytest.raises(UsageError, match="resumed has a state already"):
        workshop.train(replace(options, resume=True, given={}))
