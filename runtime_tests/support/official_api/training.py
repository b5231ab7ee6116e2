"""The exported files through onnxruntime-training's official API, with nothing of ours imported.

`runtime_tests/export/lowering/test_onnxruntime_training.py` runs this with pytest in an environment
of its own, `.venv-ort-training`. The folder that `OFFICIAL_CASE` names holds
`bundle/onnxruntime-training/` and `expected.npz`, PyTorch's numbers; files that the API wrote are
left there for the host's tests.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.training.api import CheckpointState, LinearLRScheduler, Module, Optimizer

CASE = Path(os.environ["OFFICIAL_CASE"])
FILES = CASE / "bundle" / "onnxruntime-training"
EXPECTED = dict(np.load(CASE / "expected.npz"))
LR = float(EXPECTED["lr"])
SPLIT, WHOLE = "", "whole_"
# Of a loss, along the way of all steps.
FOLLOWS = 1e-3
ONE_STEP = 1e-5
# How many times PyTorch's own rounding ours may be, where that is more than `ONE_STEP`.
ROUNDING = 4


class Training:
    """What the official documentation does, in its order."""

    def __init__(self, form, checkpoint=FILES / "checkpoint"):
        self.state = CheckpointState.load_checkpoint(str(checkpoint))
        self.module = Module(
            str(FILES / (form + "training_model.onnx")),
            self.state,
            str(FILES / (form + "eval_model.onnx")),
        )
        self.optimizer = Optimizer(str(FILES / "optimizer_model.onnx"), self.module)
        self.optimizer.set_learning_rate(LR)
        self.batch = (EXPECTED["pictures" if form else "h"], EXPECTED["labels"])

    def step(self):
        self.module.train()
        loss, correct = self.module(*self.batch)
        self.optimizer.step()
        self.module.lazy_reset_grad()
        return float(loss), int(correct)

    def evaluate(self):
        self.module.eval()
        return self.module(*self.batch)

    def parameters(self):
        return {name: parameter.data.copy() for name, parameter in self.state.parameters}

    def save(self, name):
        path = CASE / name
        CheckpointState.save_checkpoint(self.state, str(path), include_optimizer_state=True)
        return path


both_forms = pytest.mark.parametrize("form", [SPLIT, WHOLE])


@both_forms
def test_losses_are_those_of_pytorch(form):
    training = Training(form)
    found = [training.step() for _ in EXPECTED["losses"]]
    losses, correct = zip(*found, strict=True)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, EXPECTED["losses"], rtol=0, atol=FOLLOWS)
    np.testing.assert_allclose(losses[0], EXPECTED["losses"][0], rtol=ONE_STEP)
    assert correct[0] == EXPECTED["correct"][0]


@both_forms
def test_one_step(form):
    training = Training(form)
    training.step()
    training.save(form + "one_step")
    for name, value in training.parameters().items():
        expected = EXPECTED["one_step/" + name]
        bound = max(ONE_STEP, ROUNDING * float(EXPECTED["rounding/" + name]))
        assert np.linalg.norm(value - expected) <= bound * np.linalg.norm(expected), name


def test_parameters_are_what_is_trained():
    """Frozen tensors are constants of the graphs: no checkpoint holds one, nothing can move one."""
    training = Training(SPLIT)
    before = training.parameters()
    assert {"one_step/" + name for name in before} == {k for k in EXPECTED if "one_step/" in k}
    for name, parameter in training.state.parameters:
        assert parameter.requires_grad == ("running" not in name), name
    training.step()
    for name, value in training.parameters().items():
        assert (value != before[name]).any(), name


@both_forms
def test_evaluation_sees_what_was_trained(form):
    training = Training(form)
    before, *_ = training.evaluate()
    for _ in EXPECTED["losses"]:
        training.step()
    after, logits, embedding = training.evaluate()
    assert after < before
    np.testing.assert_allclose(logits, EXPECTED["logits"], rtol=0, atol=FOLLOWS * 10)
    np.testing.assert_allclose(embedding, EXPECTED["embedding"], rtol=0, atol=FOLLOWS * 10)
    np.save(str(CASE / (form + "logits.npy")), logits)
    training.module.export_model_for_inferencing(str(CASE / (form + "inference.onnx")), ["output"])


def test_frozen_layers_give_the_same_map_after_training():
    """The whole graph's training and evaluation losses differ from the split form's by nothing that
    a moved prefix would explain: both are trained on the same pictures.
    """
    whole, split = Training(WHOLE), Training(SPLIT)
    for _ in range(3):
        whole.step()
        split.step()
    np.testing.assert_allclose(whole.evaluate()[0], split.evaluate()[0], rtol=0, atol=FOLLOWS)


def test_a_saved_training_goes_on_to_the_same_bits():
    first = Training(SPLIT)
    for _ in range(3):
        first.step()
    second = Training(SPLIT, first.save("resumed"))
    assert [first.step() for _ in range(3)] == [second.step() for _ in range(3)]


def test_gradients_accumulate_until_they_are_reset():
    training = Training(SPLIT)
    name = "classifier." + str(EXPECTED["classes_layer"]) + ".bias"
    training.module.train()
    training.module(*training.batch)
    once = training.state.parameters[name].grad.copy()
    training.module(*training.batch)
    twice = training.state.parameters[name].grad.copy()
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5, atol=1e-8)
    training.module.lazy_reset_grad()
    training.module(*training.batch)
    np.testing.assert_allclose(training.state.parameters[name].grad, once, rtol=1e-5, atol=1e-8)


def test_any_number_of_pictures():
    training = Training(SPLIT)
    for count in (2, 5):
        training.batch = tuple(array[:count] for array in (EXPECTED["h"], EXPECTED["labels"]))
        loss, _ = training.step()
        assert np.isfinite(loss)
        assert training.evaluate()[1].shape[0] == count


def test_scheduler():
    training = Training(SPLIT)
    scheduler = LinearLRScheduler(training.optimizer, 0, 10, LR)
    training.step()
    scheduler.step()
    assert 0 < training.optimizer.get_learning_rate() < LR


def test_files_say_whose_checkpoint_it_is():
    properties = dict(Training(SPLIT).state.properties)
    assert properties["mobiletl.classes"] == len(EXPECTED["logits"][0])
    assert len(properties["mobiletl.training_model"]) == 64
