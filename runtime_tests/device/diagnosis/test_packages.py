"""The doctor on what is installed: releases that die, two of one kind, Python and its C library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.support.board.board_files import JETSON, PI4, PI5, ZERO2, BoardFiles
from runtime_tests.support.board.diagnosed import BOOKWORM, facts_of, found, with_packages


@pytest.mark.parametrize("files", [PI4, ZERO2, JETSON])
def test_the_release_that_dies_is_a_problem_without_atomics(
    files: BoardFiles, tmp_path: Path
) -> None:
    finding = found(facts_of(files, tmp_path, with_packages(onnxruntime=("1.21.0",))), "runtime")
    assert finding.level == "problem"
    assert "illegal instruction" in finding.found
    assert finding.to_type == "pip install 'onnxruntime!=1.21.0'"


def test_on_a_pi5_it_is_a_note_and_the_next_release_is_fine(tmp_path: Path) -> None:
    bad = with_packages(onnxruntime=("1.21.0",))
    assert found(facts_of(PI5, tmp_path / "a", bad), "runtime").level == "note"
    good = with_packages(onnxruntime=("1.21.1",))
    assert found(facts_of(PI4, tmp_path / "b", good), "runtime").level == "ok"


def test_two_runtimes_in_one_environment(tmp_path: Path) -> None:
    both = with_packages(onnxruntime_training_cpu=("1.19.2",))
    finding = found(facts_of(PI4, tmp_path, both), "runtime")
    assert finding.level == "problem"
    assert finding.to_type.startswith("pip uninstall -y onnxruntime onnxruntime-training-cpu && ")


@pytest.mark.parametrize(
    ("versions", "check", "words"),
    [
        ({"onnxruntime": None}, "runtime", "not installed"),
        ({"onnxruntime": ("1.15.1",)}, "runtime", "1.16.3 is the oldest"),
        ({"safetensors": None, "pillow": None}, "libraries", "pillow, safetensors"),
        ({"numpy": ("1.19.5",)}, "libraries", "numpy 1.19.5"),
        ({"onnxruntime": ("1.17.3",), "numpy": ("2.0.2",)}, "libraries", "made for NumPy 1"),
    ],
)
def test_packages_that_cannot_work(versions: Any, check: str, words: str, tmp_path: Path) -> None:
    finding = found(facts_of(PI4, tmp_path, with_packages(**versions)), check)
    assert finding.level == "problem"
    assert words in finding.found
    assert "pip install" in finding.to_type


@pytest.mark.parametrize(
    ("python", "glibc", "level", "words"),
    [
        ((3, 7), (2, 28), "problem", "3.8 is the oldest"),
        ((3, 8), (2, 27), "ok", "up to 1.19.2"),
        ((3, 11), (2, 27), "ok", "up to 1.28.0"),
        ((3, 13), (2, 41), "ok", "up to 1.31.1"),
        ((3, 15), (2, 41), "problem", "newest with wheels"),
        ((3, 11), (2, 26), "problem", "wheels need 2.27"),
        ((3, 11), None, "note", "no glibc"),
    ],
)
def test_python_and_its_c_library(
    python: Any, glibc: Any, level: str, words: str, tmp_path: Path
) -> None:
    process = replace(BOOKWORM, python=python, glibc=glibc)
    finding = found(facts_of(PI4, tmp_path, process), "python")
    assert (finding.level, words in finding.found) == (level, True)


@pytest.mark.parametrize(
    ("machine", "bits", "words"),
    [
        ("aarch64", 32, "a 64-bit kernel with a 32-bit system"),
        ("armv7l", 32, "a 32-bit system (armv7l)"),
    ],
)
def test_32_bits_anywhere_are_a_problem(
    machine: str, bits: int, words: str, tmp_path: Path
) -> None:
    process = replace(BOOKWORM, machine=machine, pointer_bits=bits)
    finding = found(facts_of(PI4, tmp_path, process), "64 bits")
    assert finding.level == "problem"
    assert words in finding.found
    assert "64-bit Raspberry Pi OS" in finding.to_type


def test_a_processor_without_64_bits_is_told_apart(tmp_path: Path) -> None:
    old = PI4.files["proc/cpuinfo"].replace("0xd08", "0xb76")
    process = replace(BOOKWORM, machine="armv6l", pointer_bits=32)
    facts = facts_of(PI4, tmp_path, process, cpuinfo=old, model="Raspberry Pi Zero W Rev 1.1")
    assert "no 64-bit mode" in found(facts, "64 bits").found
