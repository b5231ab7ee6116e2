"""`optimizer_model.onnx` of onnxruntime-training, and how its moments map to a bundle's slots.

The official API knows two nodes: SGDOptimizerV2, without momentum, and AdamWOptimizer,

    m' = alpha m + (1 - alpha) g
    s' = beta s + (1 - beta) g^2
    p' = p - lr m' / (sqrt(s') + epsilon)

Momentum SGD is the second with alpha the momentum, beta = 1 and epsilon = 1 - alpha: s stays zero,
m is (1 - alpha) times the velocity v' = alpha v + g, and p' = p - lr v'. Learning rate,
accumulation of gradients and checkpoints stay what the official API makes of them; the price is a
buffer of zeros as large as the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.optimizers import Adam, AdamW, Optimizer, Sgd
from mobiletl.export.lowering.onnx.builder import IR_VERSION, MICROSOFT, OPSET

SEQUENCES = ("params", "gradients", "first_order_moments", "second_order_moments")
# `adam_mode`: torch.optim.AdamW's arithmetic, and the one that can leave the bias as it is.
TORCH, PLAIN = 0, 1


@dataclass(frozen=True)
class Rule:
    """Attributes of the AdamWOptimizer node. A slot is its moment divided by the moment's unit;
    `betas` are the factors behind the scalars of the state (`correction1`, ...), in order.
    """

    attributes: Mapping[str, Any]
    units: tuple[float, ...]
    betas: tuple[float, ...] = ()


def optimizer_rule(optimizer: Optimizer) -> Rule:
    """UnsupportedModel for an optimizer that the official API has no arithmetic for."""
    rule = RULES.get(type(optimizer))
    if rule is None:
        known = ", ".join(kind.name for kind in RULES)
        raise UnsupportedModel(
            f"onnxruntime-training can't run the optimizer {optimizer.name}, expected one of: "
            f"{known}; choose one of them, or leave onnxruntime-training out of --runtimes"
        )
    return rule(optimizer)


def optimizer_model(optimizer: Optimizer) -> onnx.ModelProto:
    """One node over the sequences of all trained parameters; returns a flag."""
    inputs = [
        helper.make_tensor_value_info("learning_rate", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("step", TensorProto.INT64, [1]),
        *(
            helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)
            for name in SEQUENCES
        ),
    ]
    node = helper.make_node(
        "AdamWOptimizer",
        [value.name for value in inputs],
        ["updated"],
        name="update",
        domain=MICROSOFT,
        **optimizer_rule(optimizer).attributes,
    )
    updated = helper.make_tensor_value_info("updated", TensorProto.BOOL, [1])
    return helper.make_model(
        helper.make_graph([node], "optimizer_model", inputs, [updated]),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
        producer_name="mobiletl",
    )


def _sgd(optimizer: Any) -> Rule:
    _refuse_decay(optimizer)
    unit = _rest(optimizer.momentum)
    attributes = {
        "alpha": optimizer.momentum,
        "beta": 1.0,
        "epsilon": unit,
        "weight_decay": 0.0,
        "adam_mode": PLAIN,
        "correct_bias": 0,
    }
    return Rule(attributes, (unit,))


def _adam(optimizer: Any) -> Rule:
    _refuse_decay(optimizer)
    return _adamw(optimizer)


def _adamw(optimizer: Any) -> Rule:
    attributes = {
        "alpha": optimizer.beta1,
        "beta": optimizer.beta2,
        "epsilon": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
        "adam_mode": TORCH,
        "correct_bias": 1,
    }
    betas = (optimizer.beta1, optimizer.beta2)
    return Rule(attributes, tuple(_rest(beta) / (1.0 - beta) for beta in betas), betas)


def _rest(beta: float) -> float:
    """1 - beta as the kernel has it: from a float32, so that 1 - 0.999 is 1.3e-5 too small."""
    return float(np.float32(1.0) - np.float32(beta))


def _refuse_decay(optimizer: Optimizer) -> None:
    if optimizer.weight_decay:
        raise UnsupportedModel(
            f"onnxruntime-training can't add weight decay {optimizer.weight_decay} to the gradient "
            f"as {optimizer.name} does, expected 0; try --optimizer adamw, which decays the weights"
        )


RULES: Mapping[type[Optimizer], Callable[[Any], Rule]] = {Sgd: _sgd, Adam: _adam, AdamW: _adamw}
