"""Checks of what is installed, by the versions that package metadata states.

Nothing is imported: a runtime that dies of an illegal instruction takes the process with it.
"""

from __future__ import annotations

import re

from mobiletl.device.diagnosis.boards import (
    FIRST_ONNXRUNTIME_FOR_NUMPY_2,
    LAST_ONNXRUNTIME_FOR_GLIBC_2_27,
    OLDEST_ONNXRUNTIME,
    SIGILL_ONNXRUNTIME,
    WHEELS,
)
from mobiletl.device.diagnosis.facts import Facts
from mobiletl.device.diagnosis.findings import NOTE, OK, PROBLEM, WARNING, Finding

# They share the import name `onnxruntime`; whichever was installed last has overwritten the other.
RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-training",
    "onnxruntime-training-cpu",
)
# Armv8.1's atomic instructions as /proc/cpuinfo lists them: A53, A57 and A72 have none.
ATOMICS = "atomics"
# What else is imported: name and oldest version, as in pyproject.toml.
LIBRARIES = (("numpy", "1.21"), ("pillow", "9.1"), ("safetensors", "0.4"))
INSTALL = "pip install -r requirements.txt, or pip install mobiletl"


def numbers(version: str) -> tuple[int, ...]:
    """`1.21.0+cpu` as (1, 21, 0), to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+", 1)[0])[:3])


def check_python(facts: Facts) -> Finding:
    """Whether this Python and C library have a wheel of the runtime at all."""
    here, glibc = facts.process.python, facts.process.glibc
    name = f"Python {here[0]}.{here[1]}"
    rows = {numbers(row.python): row for row in WHEELS}
    oldest, newest = min(rows), max(rows)
    if here < oldest:
        return Finding(
            "python",
            PROBLEM,
            f"{name}; {WHEELS[0].python} is the oldest that works",
            "on Ubuntu 18.04: sudo apt install python3.8 python3.8-venv; then "
            "python3.8 -m venv .venv",
        )
    if here not in rows:
        return Finding(
            "python",
            PROBLEM if here > newest else WARNING,
            f"{name}; the newest with wheels of onnxruntime is {WHEELS[-1].python}",
            f"python{WHEELS[-1].python} -m venv .venv, or the system's own Python",
        )
    row = rows[here]
    if glibc is None:
        return Finding("python", NOTE, f"{name}, no glibc: wheels for Linux boards need it", "")
    found = f"{name}, glibc {glibc[0]}.{glibc[1]}"
    if glibc < (2, 27):
        return Finding(
            "python", PROBLEM, f"{found}; wheels need 2.27", "install a system of 2018 or newer"
        )
    newest_here = row.onnxruntime
    if glibc < numbers(row.glibc):
        newest_here = LAST_ONNXRUNTIME_FOR_GLIBC_2_27
    return Finding("python", OK, f"{found}: onnxruntime up to {newest_here}", "")


def check_runtime(facts: Facts) -> Finding:
    """The runtime: there, alone, and not one that dies on this processor."""
    packages = facts.process.packages
    found = [f"{name} {packages[name][0]}" for name in RUNTIMES if name in packages]
    if not found:
        return Finding("runtime", PROBLEM, "onnxruntime is not installed", INSTALL)
    if len(found) > 1:
        names = " ".join(text.split()[0] for text in found)
        return Finding(
            "runtime",
            PROBLEM,
            f"{' and '.join(found)} overwrite each other in one environment",
            f"pip uninstall -y {names} && pip install 'onnxruntime!=1.21.0'",
        )
    version = found[0].split()[1]
    if version in SIGILL_ONNXRUNTIME and facts.process.machine == "aarch64":
        if ATOMICS not in facts.features:
            return Finding(
                "runtime",
                PROBLEM,
                f"{found[0]} dies of an illegal instruction on this processor "
                "(microsoft/onnxruntime#24112)",
                "pip install 'onnxruntime!=1.21.0'",
            )
        return Finding(
            "runtime", NOTE, f"{found[0]} runs here, and dies on a Raspberry Pi 4 or older", ""
        )
    if numbers(version) < numbers(OLDEST_ONNXRUNTIME):
        return Finding(
            "runtime",
            PROBLEM,
            f"{found[0]}; {OLDEST_ONNXRUNTIME} is the oldest that is tested",
            f"pip install 'onnxruntime>={OLDEST_ONNXRUNTIME},!=1.21.0'",
        )
    return Finding("runtime", OK, found[0], "")


def check_libraries(facts: Facts) -> Finding:
    """NumPy, Pillow and safetensors: there, new enough, and a NumPy the runtime was made for."""
    packages = facts.process.packages
    missing = [name for name, _ in LIBRARIES if name not in packages]
    if missing:
        return Finding("libraries", PROBLEM, f"not installed: {', '.join(missing)}", INSTALL)
    old = [
        (name, packages[name][0], least)
        for name, least in LIBRARIES
        if numbers(packages[name][0]) < numbers(least)
    ]
    if old:
        return Finding(
            "libraries",
            PROBLEM,
            "too old: " + ", ".join(f"{name} {version}" for name, version, _ in old),
            "pip install " + " ".join(f"'{name}>={least}'" for name, _, least in old),
        )
    runtime, numpy = packages.get("onnxruntime", ("",))[0], packages["numpy"][0]
    if (
        runtime
        and numbers(runtime) < numbers(FIRST_ONNXRUNTIME_FOR_NUMPY_2)
        and numbers(numpy) >= (2,)
    ):
        return Finding(
            "libraries",
            PROBLEM,
            f"onnxruntime {runtime} was made for NumPy 1 and does not import with {numpy}",
            "pip install 'numpy<2'",
        )
    shown = ", ".join(f"{name} {packages[name][0]}" for name, _ in LIBRARIES)
    return Finding("libraries", OK, shown, "")
