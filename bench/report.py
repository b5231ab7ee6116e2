"""The measurements as text, each figure with its unit and its conditions."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import numpy
import onnxruntime
import torch

from bench.speed import BATCH, EAGER, SIDE, THREADS, Speed


@dataclass(frozen=True)
class Process:
    """Peak memory of a whole training process in bytes; `planned` where there is a plan."""

    name: str
    measured: int
    planned: int | None = None


def conditions(weights: str, blocks: int, rounds: int) -> dict[str, str]:
    """What the figures depend on."""
    timing = f"medians of {rounds} rounds, ratios of paired ones; a round runs all in turn"
    return {**common_conditions(weights, blocks, THREADS), "timing": timing}


def common_conditions(weights: str, blocks: int, threads: int) -> dict[str, str]:
    """Those that benches beside eager PyTorch share: network, machine and versions."""
    return {
        "model": f"MobileNetV2 1.0, {SIDE} px, batch {BATCH}, {blocks} blocks trained",
        "weights": weights,
        "machine": f"{platform.machine()}, {threads} threads, {_processor()}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}",
    }


def speed_lines(speed: Speed) -> list[str]:
    """Pictures per second and ratios."""
    lines = [
        "training speed, pictures per second; x = times eager PyTorch's features and step",
        f"  {'':<24}{'features + step':>22}{'features cached':>22}{'step, ms':>12}"
        f"{'x PyTorch step':>16}{'x floor':>10}",
    ]
    for row in speed.rows:
        floors = "" if row.floors is None else f"{row.floors:.1f}"
        cached = "(no cache)" if row.name == EAGER else f"{row.step:.1f} ({row.cached_ratio:.2f} x)"
        lines.append(
            f"  {row.name:<24}{f'{row.whole:.1f} ({row.whole_ratio:.2f} x)':>22}{cached:>22}"
            f"{row.step_ms:>12.1f}{row.step_ratio:>16.2f}{floors:>10}".rstrip()
        )
    rate = f"{speed.product_rate / 1e9:.1f}"
    lines.append(f"  floor: the step's MACs at {rate} GMAC/s, the rate of Gemm in the same rounds")
    return lines


def memory_lines(processes: list[Process]) -> list[str]:
    """Peak memory of whole processes, and how many times less than PyTorch's; PyTorch is last."""
    lines = [
        "peak memory of the whole process, one epoch on real JPEGs, MB (1e6 bytes)",
        f"  {'':<40}{'planned':>10}{'measured':>10}{'PyTorch / this':>16}",
    ]
    most = processes[-1].measured
    for process in processes:
        planned = "" if process.planned is None else f"{process.planned / 1e6:.1f}"
        lines.append(
            f"  {process.name:<40}{planned:>10}{process.measured / 1e6:>10.1f}"
            f"{most / process.measured:>16.2f}"
        )
    return lines


def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "processor unknown"
