"""Transfer methods, one row each: which layers are trained, and with which backward pass.

To add one: a file beside this one, a row below, and every test that runs over the table covers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.methods.biases import train_biases
from mobiletl.core.methods.da3 import train_attention
from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.methods.mobiletl import train_shifts
from mobiletl.core.methods.norms import train_norms
from mobiletl.core.methods.repnet import train_side_modules, train_side_modules_and_biases
from mobiletl.core.methods.tinytl import (
    train_every_bias,
    train_lite_residuals,
    train_lite_residuals_and_biases,
)
from mobiletl.core.optimizers import Optimizer
from mobiletl.core.saved import FLOAT32, ONE_BIT, Saved, keep
from mobiletl.core.table import find_row
from mobiletl.core.transfer import USUAL_RESOLUTION, Transfer, split, whole

__all__ = ["METHODS", "Method", "Reach", "find_method"]


DEFAULT_BLOCKS = 3
# Of all methods but MobileTL, which follows an approximate gradient.
OF_EXACT_GRADIENTS = {"adam": 1e-3, "adamw": 1e-3}


class Reach(Enum):
    """How far down the backward pass goes, and so what the top is."""

    CLASSIFIER = "the classifier alone"
    BLOCKS = "the topmost blocks"
    NETWORK = "the whole network"


@dataclass(frozen=True)
class Method:
    """One way to fine-tune a backbone.

    `apply` rewrites the layers of the trained top in place. What the top is, `reach` says;
    `default_blocks` is None for all but BLOCKS. `saved` is the policy of what its backward pass
    keeps (core/saved/) if nobody names another.
    """

    name: str
    summary: str
    apply: Callable[[Transfer], None]
    reach: Reach
    saved: Saved = FLOAT32
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    """First learning rates by optimizer where another than the optimizer's own was measured to be
    better (docs/defaults.md)."""

    def default_rate(self, optimizer: Optimizer) -> float:
        """The first learning rate, for batches of 8, if nobody names one."""
        return self.rates.get(optimizer.name, optimizer.default_lr)

    @property
    def default_blocks(self) -> int | None:
        """How many blocks are trained if nobody says; None where a number makes no sense."""
        return DEFAULT_BLOCKS if self.reach is Reach.BLOCKS else None

    def prepare(
        self,
        model: IrbNetwork,
        blocks: int | None,
        fold: bool = True,
        resolution: int = USUAL_RESOLUTION,
        saved: Saved | None = None,
    ) -> Transfer:
        """Cut `model` and make its top trainable; `blocks` and `saved` None take the defaults.

        Consumes `model`. `fold` False leaves the prefix's norms in, for accounting. Kernels that a
        method puts beside blocks shrink with the maps of pictures of size `resolution`. Raises
        UnsupportedModel for more blocks than there are, or for any block count where the method
        takes none.
        """
        if self.reach is not Reach.BLOCKS and blocks is not None:
            raise UnsupportedModel(
                f"{self.name} reaches {self.reach.value}, but {blocks} blocks were asked for; "
                "leave --blocks out or choose another method"
            )
        if self.reach is Reach.NETWORK:
            transfer = whole(model, resolution)
        else:
            count = self.default_blocks if blocks is None else blocks
            transfer = split(model, count, fold, resolution)
        self.apply(transfer)
        # What a method puts beside the layers of `features` keeps what it keeps.
        policy = saved or self.saved
        keep(transfer.top.features, policy)
        if policy.keep_inputs is not None:
            policy.keep_inputs(transfer.top)
        return transfer


METHODS = (
    Method(
        "mobiletl",
        "top blocks; of inner norms only the shift, one-bit masks instead of activations",
        train_shifts,
        Reach.BLOCKS,
        ONE_BIT,
        {"sgd": 2e-4},
    ),
    Method(
        "ft-blocks",
        "top blocks, head convolution and classifier; everything in them, exact backward",
        train_exactly,
        Reach.BLOCKS,
        rates=OF_EXACT_GRADIENTS,
    ),
    Method(
        "ft-all",
        "everything in the whole network, exact backward",
        train_exactly,
        Reach.NETWORK,
        rates=OF_EXACT_GRADIENTS,
    ),
    Method(
        "ft-bn",
        "scale, shift and statistics of every norm, and the last layer",
        train_norms,
        Reach.NETWORK,
        rates=OF_EXACT_GRADIENTS,
    ),
    Method(
        "ft-bias",
        "every bias and the shift of every norm, and the last layer",
        train_biases,
        Reach.NETWORK,
        rates=OF_EXACT_GRADIENTS,
    ),
    Method(
        "tinytl-b",
        "as ft-bias, with one-bit masks instead of the inputs of ReLU and ReLU6",
        train_every_bias,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "tinytl-l",
        "lite residual modules beside frozen blocks, and the last layer",
        train_lite_residuals,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "tinytl-lb",
        "lite residual modules, every bias and the shift of every norm, and the last layer",
        train_lite_residuals_and_biases,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "repnet",
        "side modules at the stages of a frozen network, and the linear layers",
        train_side_modules,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "repnet-bias",
        "side modules, linear layers, every bias and the shift of every norm",
        train_side_modules_and_biases,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "da3",
        "an additive attention adaptor in each frozen block, and the last layer",
        train_attention,
        Reach.NETWORK,
        ONE_BIT,
        OF_EXACT_GRADIENTS,
    ),
    Method(
        "ft-last",
        "the classifier alone",
        train_exactly,
        Reach.CLASSIFIER,
        rates={"adam": 3e-3, "adamw": 3e-3},
    ),
)


def find_method(name: str) -> Method:
    """The row of that name; UnsupportedModel lists the known ones."""
    return find_row(METHODS, name, "no method is called")
