"""`python -m bench.peers.mnn FEATURES.mnn`: MNN trains the top 3 blocks of MobileNetV2 1.0.

Runs in `.venv-mnn`. The frozen layers are ours, converted by MNN's own converter. The blocks are
written in MNN's layers with random weights, since speed is what is compared: all kernels and norms
are trained with the statistics of the batch, by SGD with momentum, which is what its API offers.
"""

from __future__ import annotations

import sys

import MNN.expr as F
import numpy as np
from MNN import nn, optim

from bench.peers.protocol import BATCH, CLASSES, SIDE, STEP, THREADS, WHOLE, serve

CHANNELS, MAP = 160, 7
EXPANSION, LAST = 6, 1280
RATE, MOMENTUM = 1e-4, 0.9


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        self.residual = inputs == outputs
        self.expand = nn.conv(inputs, wide, [1, 1], bias=False)
        self.norm1 = nn.batch_norm(wide)
        # Kernel, stride, padding, dilation, depthwise, bias, kind of padding.
        same = F.Padding_Mode.SAME
        self.spatial = nn.conv(wide, wide, [3, 3], [1, 1], [1, 1], [1, 1], True, False, same)
        self.norm2 = nn.batch_norm(wide)
        self.project = nn.conv(wide, outputs, [1, 1], bias=False)
        self.norm3 = nn.batch_norm(outputs)

    def forward(self, x: F.Var) -> F.Var:
        """As MNN's modules have it."""
        y = F.relu6(self.norm1.forward(self.expand.forward(x)))
        y = F.relu6(self.norm2.forward(self.spatial.forward(y)))
        y = self.norm3.forward(self.project.forward(y))
        return x + y if self.residual else y


class Top(nn.Module):
    """Three blocks, the last convolution, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = Block(CHANNELS, CHANNELS), Block(CHANNELS, CHANNELS)
        self.block3 = Block(CHANNELS, 320)
        self.last = nn.conv(320, LAST, [1, 1], bias=False)
        self.norm = nn.batch_norm(LAST)
        self.classifier = nn.linear(LAST, CLASSES)

    def forward(self, h: F.Var) -> F.Var:
        """As MNN's modules have it."""
        x = self.block3.forward(self.block2.forward(self.block1.forward(h)))
        x = F.relu6(self.norm.forward(self.last.forward(x)))
        return self.classifier.forward(F.reduce_mean(x, [2, 3], False))


class Training:
    """The frozen layers, the top and its optimizer."""

    def __init__(self, features: str) -> None:
        F.set_thread_number(THREADS)
        F.lazy_eval(True)
        self._features = nn.load_module_from_file(features, ["images"], ["h"], thread_num=THREADS)
        self._top = Top()
        self._top.train(True)
        self._optimizer = optim.SGD(self._top, RATE, MOMENTUM)
        noise = np.random.default_rng(0)
        self._images = noise.standard_normal((BATCH, 3, SIDE, SIDE)).astype(np.float32)
        self._labels = (np.arange(BATCH) % CLASSES).astype(np.int32)
        self._h = self.maps()

    def maps(self) -> np.ndarray:
        """Feature maps of the pictures."""
        images = F.placeholder([BATCH, 3, SIDE, SIDE], F.NCHW)
        images.write(self._images)
        return np.array(F.convert(self._features.forward(images), F.NCHW).read())

    def step(self, h: np.ndarray | None = None) -> float:
        """One step on maps, those of before if none are given; returns its loss."""
        given = F.const(self._h if h is None else h, [BATCH, CHANNELS, MAP, MAP], F.NCHW)
        labels = F.const(self._labels, [BATCH], F.NCHW, F.int)
        wanted = F.one_hot(labels, CLASSES, 1.0, 0.0)
        said = F.softmax(self._top.forward(F.convert(given, F.NC4HW4)))
        loss = nn.loss.cross_entropy(said, wanted)
        self._optimizer.step(loss)
        return float(np.array(loss.read()))


def main(features: str) -> None:
    """Serve both parts."""
    training = Training(features)
    serve({WHOLE: lambda: training.step(training.maps()), STEP: training.step})


if __name__ == "__main__":
    main(*sys.argv[1:])
