"""What is compared: methods, each with a number of blocks where it takes one, and their rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.core.methods import METHODS, Method, find_method
from mobiletl.core.optimizers import find_optimizer

# Numbers of blocks to compare; other methods that take a number run with their default.
BLOCKS: Mapping[str, tuple[int, ...]] = {"mobiletl": (1, 3, 5)}


@dataclass(frozen=True)
class Subject:
    """A method and how many blocks it trains; None where it takes no number."""

    method: Method
    blocks: int | None

    def __str__(self) -> str:
        """As `--methods` takes it."""
        return self.method.name if self.blocks is None else f"{self.method.name}:{self.blocks}"

    def default_rate(self, optimizer: str) -> float:
        """The rate where nobody names one."""
        return self.method.default_rate(find_optimizer(optimizer))


def every_subject() -> tuple[Subject, ...]:
    """All rows of METHODS."""
    return tuple(
        Subject(method, blocks)
        for method in METHODS
        for blocks in BLOCKS.get(method.name, (method.default_blocks,))
    )


def named_subjects(names: Sequence[str]) -> tuple[Subject, ...]:
    """`mobiletl:5`, `ft-last` and so on; UsageError or UnsupportedModel for what makes no sense."""
    return tuple(dict.fromkeys(_subject(name.strip()) for name in names))


def _subject(text: str) -> Subject:
    name, colon, number = text.partition(":")
    method = find_method(name)
    if not colon:
        return Subject(method, method.default_blocks)
    if not number.isdecimal():
        raise UsageError(f"{text!r} names {number!r} blocks, expected a number as in mobiletl:5")
    if method.default_blocks is None:
        raise UnsupportedModel(f"{name} takes no number of blocks, but {text!r} names one")
    return Subject(method, int(number))
