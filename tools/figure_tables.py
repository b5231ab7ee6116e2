"""The papers' figures as rows: what is published beside what `mobiletl account` computes.

Every number of ours here is paper accounting: a sum on paper, neither planned nor measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from published import (
    BATCH,
    BLOCK_CHANNELS,
    BLOCK_HIDDEN,
    BLOCK_SIZE,
    FIGURE_1,
    FIGURE_1_SOURCE,
    FIGURE_1_TOTALS,
    FIGURE_2,
    FIGURE_2_CLASSES,
    FIGURE_2_MODEL,
    FIGURE_2_SOURCE,
    MB,
    MEMORY,
    MEMORY_CLASSES,
    MEMORY_MODEL,
    MILLION,
    RESOLUTION,
    Step,
)
from torch import nn

from mobiletl.core.accounting.account import Account, account, account_of
from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import (
    Block,
    IrbNetwork,
    NormSetting,
    mobilenetv2_block,
    mobilenetv3_block,
)
from mobiletl.core.methods import METHODS, Method, Reach, find_method
from mobiletl.core.saved import Saved

VANILLA, MOBILETL = "ft-blocks", "mobiletl"
# MobileNetV3 squeezes to a quarter of the block's inner width.
SQUEEZED = BLOCK_HIDDEN // 4
MOST_BLOCKS = {"figure2": 5, "memory": 4}
TOTAL = "total"


@dataclass(frozen=True)
class Row:
    """One number. `published` is None where no paper gives it; the titles are those of the CSV."""

    subject: str
    method: str
    quantity: str
    unit: str
    published: float | None
    ours: float
    source: str

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        published = "" if self.published is None else f"{round(self.published, 3):g}"
        ours = f"{self.ours:.3f}"
        return self.subject, self.method, self.quantity, self.unit, published, ours, self.source


TITLES = (
    "subject",
    "method",
    "quantity",
    "unit",
    "published (paper accounting)",
    "ours (paper accounting)",
    "source of the published figure",
)


def _block(network: str) -> nn.Module:
    channels, hidden = BLOCK_CHANNELS, BLOCK_HIDDEN
    if network == "v2":
        return mobilenetv2_block(Block(channels, hidden, channels))
    row = Block(channels, hidden, channels, activation=nn.Hardswish, squeezed_channels=SQUEEZED)
    return mobilenetv3_block(row, NormSetting())


@cache
def one_block(network: str, method: str, saved: Saved | None = None) -> dict[str, float]:
    """MB stored by the components of Figure 1, for a block that is all there is to train but the
    classifier. Layers of squeeze-excite are one component.
    """
    classifier = nn.Sequential(nn.Linear(BLOCK_CHANNELS, 10))
    transfer = find_method(method).prepare(
        IrbNetwork("one block", [], [_block(network)], [], classifier), 1, saved=saved
    )
    it = account_of(transfer, (BATCH, BLOCK_CHANNELS, BLOCK_SIZE, BLOCK_SIZE))
    sizes = dict.fromkeys((component.layer for component in FIGURE_1[network]), 0.0)
    for layer in it.top:
        name = layer.name.removeprefix("features.0.")
        if layer.stored_bytes and name != layer.name:
            (start,) = (s for s in sizes if f"{name}.".startswith(f"{s}."))
            sizes[start] += layer.stored_bytes / MB
    return sizes


def figure_1() -> tuple[Row, ...]:
    """Stored activations of one block by component, and their sum."""
    return tuple(_figure_1())


def _figure_1() -> Iterator[Row]:
    for network, components in FIGURE_1.items():
        for column, method in enumerate((VANILLA, MOBILETL)):
            ours = one_block(network, method)
            for it in components:
                published = it.mobiletl if column else it.vanilla
                yield _stored(network, method, it.title, published, ours[it.layer])
            total = FIGURE_1_TOTALS[network][column]
            yield _stored(network, method, TOTAL, total, sum(ours.values()))


def _stored(network: str, method: str, title: str, published: float, ours: float) -> Row:
    subject = f"MobileNet{network.upper()} block"
    return Row(subject, method, title, "MB", published, ours, FIGURE_1_SOURCE)


@cache
def whole_account(model: str, method: str, blocks: int | None, classes: int) -> Account:
    """At the papers' batch and resolution."""
    row = find_method(method)
    return account(find_backbone(model), row, blocks, classes, BATCH, RESOLUTION)


def figure_2() -> tuple[Row, ...]:
    """FLOPs and stored activations of MobileNetV3-Small against the number of trained blocks."""
    return tuple(_figure_2())


def _figure_2() -> Iterator[Row]:
    known = {step.blocks: step for step in FIGURE_2}
    counts = range(1, MOST_BLOCKS["figure2"] + 1)
    for blocks in (*counts, None):
        method = "ft-all" if blocks is None else VANILLA
        yield from _trained_blocks(method, blocks, known.get(blocks))
    for blocks in counts:
        yield from _trained_blocks(MOBILETL, blocks, None)


def _trained_blocks(method: str, blocks: int | None, step: Step | None) -> Iterator[Row]:
    it = whole_account(FIGURE_2_MODEL, method, blocks, FIGURE_2_CLASSES)
    published = (step.forward, step.backward, step.stored) if step else (None, None, None)
    quantities = (
        ("forward", "MFLOPs", it.forward_flops / MILLION),
        ("backward", "MFLOPs", it.backward_flops / MILLION),
        ("stored activations", "MB", it.stored_bytes / MB),
    )
    for (quantity, unit, ours), value in zip(quantities, published, strict=True):
        source = "" if value is None else FIGURE_2_SOURCE
        subject = _count(blocks) if blocks else "all"
        yield Row(subject, method, quantity, unit, value, ours, source)


def _count(blocks: int) -> str:
    return "1 block" if blocks == 1 else f"{blocks} blocks"


def memory() -> tuple[Row, ...]:
    """Training memory of ProxylessNAS-Mobile under every method."""
    known = {(it.method, it.blocks): it for it in MEMORY}
    rows = []
    for method in METHODS:
        for blocks in _blocks(method):
            it = whole_account(MEMORY_MODEL, method.name, blocks, MEMORY_CLASSES)
            published = known.get((method.name, blocks))
            rows.append(
                Row(
                    _count(blocks) if blocks else "",
                    method.name,
                    "training memory",
                    "MB",
                    published.megabytes if published else None,
                    it.training_memory_bytes / MB,
                    published.source if published else "",
                )
            )
    return tuple(rows)


def _blocks(method: Method) -> tuple[int | None, ...]:
    if method.reach is not Reach.BLOCKS:
        return (None,)
    return tuple(range(1, MOST_BLOCKS["memory"] + 1))
