"""Transfer methods, one row each: which layers are trained, and with which backward pass.

To add one: a file beside this one, a row below, and every test that runs over the table covers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.inverted_residual import IrbNetwork
from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.methods.mobiletl import train_shifts
from mobiletl.core.transfer import Transfer, split

__all__ = ["METHODS", "Method", "find_method"]


@dataclass(frozen=True)
class Method:
    """One way to fine-tune a backbone.

    `apply` rewrites the layers of the trained top in place; `default_blocks` is None for a method
    that trains no block at all.
    """

    name: str
    summary: str
    apply: Callable[[Transfer], None]
    default_blocks: int | None

    def prepare(self, model: IrbNetwork, blocks: int | None, fold: bool = True) -> Transfer:
        """Cut `model` and make its top trainable; `blocks` None takes the default.

        Consumes `model`. `fold` False leaves the prefix's norms in, for accounting. Raises
        UnsupportedModel for more blocks than there are, or for any block count where the method
        takes none.
        """
        if self.default_blocks is None and blocks is not None:
            raise UnsupportedModel(
                f"{self.name} trains no blocks, but {blocks} were asked for; "
                "leave --blocks out or choose another method"
            )
        transfer = split(model, self.default_blocks if blocks is None else blocks, fold)
        self.apply(transfer)
        return transfer


METHODS = (
    Method(
        "mobiletl",
        "top blocks; of inner norms only the shift, one-bit masks instead of activations",
        train_shifts,
        default_blocks=3,
    ),
    Method(
        "ft-blocks",
        "top blocks, head convolution and classifier; everything in them, exact backward",
        train_exactly,
        default_blocks=3,
    ),
    Method("ft-last", "the classifier alone", train_exactly, default_blocks=None),
)


def find_method(name: str) -> Method:
    """The row of that name; UnsupportedModel lists the known ones."""
    for method in METHODS:
        if method.name == name:
            return method
    known = ", ".join(method.name for method in METHODS)
    raise UnsupportedModel(f"no method is called {name!r}, expected one of: {known}")
