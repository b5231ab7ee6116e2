"""What the papers publish, as tables: the figures that `figure_tables.py` sets ours beside.

MB are 1e6 bytes. MobileTL is Chiang et al., AAAI 2023; its figures 1 and 2 are for batches of 8.
"""

from __future__ import annotations

from dataclasses import dataclass

MB = 1e6
MILLION = 1e6
BATCH = 8
RESOLUTION = 224

# Figure 1: a block of 96 channels, expansion 6, on 7x7 maps, so 8*576*7*7 inner elements.
BLOCK_CHANNELS, BLOCK_HIDDEN, BLOCK_SIZE = 96, 576, 7
ELEMENTS = BATCH * BLOCK_HIDDEN * BLOCK_SIZE * BLOCK_SIZE
# Of masks the paper says how many bits an element takes.
BIT_MB = ELEMENTS / 8 / MB


FIGURE_1_SOURCE = "MobileTL (arXiv 2212.03246), figure 1"
FIGURE_2_SOURCE = "MobileTL (arXiv 2212.03246), figure 2"


@dataclass(frozen=True)
class Component:
    """One bar of Figure 1: MB stored under `vanilla` fine-tuning and under MobileTL.

    `layer` starts the names of the layers that are counted in it.
    """

    layer: str
    title: str
    vanilla: float
    mobiletl: float


FIGURE_1: dict[str, tuple[Component, ...]] = {
    "v2": (
        Component("conv.0.0", "expand convolution", 0.15, 0.15),
        Component("conv.0.1", "first norm", 0.91, 0.0),
        Component("conv.0.2", "first ReLU6", 2 * BIT_MB, BIT_MB),
        Component("conv.1.0", "depthwise convolution", 0.90, 0.90),
        Component("conv.1.1", "second norm", 0.91, 0.0),
        Component("conv.1.2", "second ReLU6", 2 * BIT_MB, BIT_MB),
        Component("conv.2", "project convolution", 0.90, 0.90),
        Component("conv.3", "last norm", 0.15, 0.15),
    ),
    "v3": (
        Component("block.0.0", "expand convolution", 0.15, 0.15),
        Component("block.0.1", "first norm", 0.91, 0.0),
        Component("block.0.2", "first hard swish", 0.90, BIT_MB),
        Component("block.1.0", "depthwise convolution", 0.90, 0.90),
        Component("block.1.1", "second norm", 0.91, 0.0),
        Component("block.1.2", "second hard swish", 0.90, BIT_MB),
        Component("block.2", "squeeze-excite", 0.95, 0.95),
        Component("block.3.0", "project convolution", 0.90, 0.90),
        Component("block.3.1", "last norm", 0.15, 0.15),
    ),
}
# Vanilla, MobileTL.
FIGURE_1_TOTALS = {"v2": (4.03, 2.16), "v3": (6.67, 3.11)}


@dataclass(frozen=True)
class Step:
    """One point of Figure 2: millions of FLOPs, and MB stored by vanilla fine-tuning (None: not
    given). `blocks` None is the whole network.
    """

    blocks: int | None
    forward: float
    backward: float
    stored: float | None


FIGURE_2_MODEL, FIGURE_2_CLASSES = "mbv3-small", 10
FIGURE_2 = (
    Step(1, 968.8, 284.3, None),
    Step(3, 972.1, 655.4, 23.1),
    Step(5, 975.0, 902.7, 35.9),
    Step(None, 1000.6, 1934.9, 129.7),
)


@dataclass(frozen=True)
class Memory:
    """Training memory of a method, MB."""

    method: str
    blocks: int | None
    megabytes: float
    source: str


# 100 classes give the last layer's 29.0 to the digit.
MEMORY_MODEL, MEMORY_CLASSES = "proxyless", 100
MAIN_RESULT = "MobileTL (arXiv 2212.03246), main result"
COMPARED = "prior work as MobileTL and Rep-Net (CVPR 2022) compare it"
MEMORY = (
    *(
        Memory("mobiletl", blocks, megabytes, MAIN_RESULT)
        for blocks, megabytes in enumerate((32.3, 33.0, 33.8, 38.9), 1)
    ),
    *(
        Memory("ft-blocks", blocks, megabytes, MAIN_RESULT)
        for blocks, megabytes in enumerate((32.3, 35.5, 40.5, 50.1), 1)
    ),
    Memory("tinytl-b", None, 31.7, COMPARED),
    Memory("tinytl-l", None, 37.2, COMPARED),
    Memory("tinytl-lb", None, 37.2, COMPARED),
    Memory("repnet-bias", None, 32.8, COMPARED),
    Memory("ft-last", None, 29.0, COMPARED),
    Memory("ft-bn", None, 183.0, COMPARED),
    Memory("ft-all", None, 367.0, COMPARED),
)
