"""The command `mobiletl account`: the numbers of the accounting, and one line for bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mobiletl.core.accounting.account import account
from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.device.commands.table import main
from runtime_tests.support.board.shared_files import REPOSITORY

SMALL = ["account", "--model", "mbv3-small", "--resolution", "96", "--batch", "2"]


def test_json_is_the_account(capsys: Any) -> None:
    assert main([*SMALL, "--method", "mobiletl", "--blocks", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    it = account(find_backbone("mbv3-small"), find_method("mobiletl"), 2, 10, 2, 96)
    assert found["convention"] == "paper accounting"
    names = ("trained_parameters", "frozen_parameters", "peak_activation_bytes")
    for name in (*names, "training_memory_bytes"):
        assert found[name] == getattr(it, name)
    components = found["components"]
    assert {"convolution", "norm", "activation", "squeeze-excite", "sum"} <= set(components)
    for name in (*next(iter(components.values())),):
        assert sum(part[name] for part in components.values()) == getattr(it, name) == found[name]


def test_table_names_its_convention_and_adds_up(capsys: Any) -> None:
    assert main([*SMALL, "--method", "ft-last"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mbv3-small, ft-last, 10 classes"
    assert lines[1] == "a step of 2 pictures of 96 x 96 px"
    assert "paper accounting" in lines[2]
    rows = {line.split()[0]: line.split()[1:] for line in lines[5:] if line}
    parts = [rows[name] for name in list(rows)[: list(rows).index("total")]]
    for column, total in enumerate(rows["total"]):
        assert sum(float(part[column]) for part in parts) == pytest.approx(float(total), abs=0.4)


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--model", "resnet"], 9, "no model is called 'resnet'"),
        (["--method", "ft-last", "--blocks", "2"], 9, "leave --blocks out"),
        (["--blocks", "30"], 9, "MobileNetV3-Small has 11"),
        (["--batch", "0"], 2, "--batch is 0, expected 1 or more"),
        (["--classes", "1"], 2, "--classes is 1, expected 2 or more"),
        (["--resolution", "100"], 9, "try 96"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], code: int, text: str, capsys: Any) -> None:
    assert main([*SMALL, *flags]) == code
    error = capsys.readouterr().err
    assert error.startswith("mobiletl: ")
    assert error.count("\n") == 1
    assert text in error


def test_help_ends_with_lines_to_paste(capsys: Any) -> None:
    assert main(["account", "--help"]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("  mobiletl account ")


@pytest.mark.parametrize("method", ["mobiletl", "tinytl-lb", "repnet", "ft-all"])
def test_a_network_of_ones_own(method: str, capsys: Any) -> None:
    model = f"{REPOSITORY / 'examples/own_network/mnasnet.py'}:build_half"
    flags = ["account", "--model", model, "--method", method, "--resolution", "64", "--json"]
    assert main(flags) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained_parameters"] > 0
    assert found["peak_activation_bytes"] > 0
