"""A wheelhouse installs on a board without a network; its bill of materials is what is there."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from emulation.chroot import Chroot
from emulation.host import index_answers
from emulation.machine import machine
from mobiletl.device.diagnosis.boards import board_named
from tools.own_wheel import build_wheel

# A network of its own, which has nothing in it (CLONE_NEWNET).
OFFLINE = """\
import ctypes, os, sys
assert ctypes.CDLL(None).unshare(0x40000000) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
TEXT_LICENSE = "License: Permission is hereby granted\n to anybody"


def wheel(folder: Path, name: str, version: str, *lines: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines, ""])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", text)
        archive.writestr(f"{name}/vendored/other-1.dist-info/METADATA", "Name: other")
    return path


@pytest.fixture
def bills() -> ModuleType:
    return importlib.import_module("bill_of_materials")


@pytest.fixture
def tool() -> ModuleType:
    return importlib.import_module("wheelhouse")


def licence(component: dict[str, Any]) -> list[str]:
    entries = component.get("licenses", [])
    return [e.get("expression") or e["license"].get("id") or e["license"]["name"] for e in entries]


def test_a_bill_of_every_way_to_declare(bills: ModuleType, tmp_path: Path) -> None:
    classifier = "Classifier: License :: OSI Approved :: BSD License"
    wheels = [
        wheel(
            tmp_path, "program", "1.0", "License-Expression: Apache-2.0 OR MIT",
            "Requires-Dist: field>=1", "Requires-Dist: pasted; python_version < '3.9'",
            "Provides-Extra: more", "Requires-Dist: plain; extra == 'more'",
        ),
        wheel(tmp_path, "field", "2.1", "License: MIT", "Requires-Dist: absent"),
        wheel(tmp_path, "pasted", "3", TEXT_LICENSE, classifier),
        wheel(tmp_path, "plain", "4", "Project-URL: Homepage, https://example.org/plain"),
    ]  # fmt: skip
    path = tmp_path / "bom.json"
    bills.write_bill(wheels, wheels[0].name, "3.11", path)
    text = path.read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    found = {each["name"]: each for each in bill["components"]}
    assert set(found) == {"field", "pasted", "plain"}
    assert bill["metadata"]["component"]["name"] == "program"
    assert licence(bill["metadata"]["component"]) == ["Apache-2.0 OR MIT"]
    assert licence(found["field"]) == ["MIT"]
    assert licence(found["pasted"]) == ["BSD License"]
    assert licence(found["plain"]) == []
    assert found["plain"]["externalReferences"][0]["url"] == "https://example.org/plain"
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert needs["pkg:pypi/program@1.0"] == ["pkg:pypi/field@2.1", "pkg:pypi/plain@4"]
    assert needs["pkg:pypi/field@2.1"] == []


def test_only_the_same_files_are_installed(tool: ModuleType, tmp_path: Path) -> None:
    line = tool.locked([wheel(tmp_path, "some_package", "1.0")])
    assert line.startswith("some-package==1.0 --hash=sha256:")
    assert len(line.strip().rpartition(":")[2]) == 64


def test_a_folder_of_something_else_is_left_alone(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(tool.WheelhouseError, match="is there and is no wheelhouse"):
        tool.collect(board_named("pi4"), [], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]


def test_an_extra_that_there_is_none_of(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(tool.WheelhouseError, match="no extra 'camera'"):
        tool.collect(board_named("pi4"), ["camera"], tmp_path / "out")


@pytest.mark.slow
def test_an_emulated_pi4_installs_without_a_network(tool: ModuleType, tmp_path: Path) -> None:
    pi4 = machine("pi4")
    objection = Chroot().objection(pi4)
    if objection or not index_answers():
        pytest.skip(f"no emulated board: {objection or 'the package index does not answer'}")
    tool.collect(pi4.board, [], tmp_path / "shared")
    place = Chroot().install(pi4, build_wheel(tmp_path / "own"))

    def call(*command: str) -> str:
        offline = ["python3", "-c", OFFLINE, *command]
        done = place.run(tmp_path / "shared", offline, 1800)
        assert done.returncode == 0, done.stdout
        return done.stdout

    here = "/tmp/offline"
    call("python3", "-m", "venv", "--clear", here)
    pip = f"{here}/bin/pip"
    flags = ["--no-index", "--find-links", "/shared", "--require-hashes"]
    call(pip, "install", "--quiet", *flags, "-r", f"/shared/{tool.REQUIREMENTS}")
    listed = json.loads(call(pip, "list", "--format", "json").splitlines()[-1])
    installed = {each["name"].lower(): each["version"] for each in listed}
    bill = json.loads((tmp_path / "shared" / tool.BILL).read_text("utf-8"))
    components = [*bill["components"], bill["metadata"]["component"]]
    assert {each["name"].lower(): each["version"] for each in components} == {
        name: version for name, version in installed.items() if name not in ("pip", "setuptools")
    }
    assert all(licence(each) for each in components)
    assert call(f"{here}/bin/mobiletl", "--version").startswith("mobiletl ")
    shutil.rmtree(place.root / here[1:])
