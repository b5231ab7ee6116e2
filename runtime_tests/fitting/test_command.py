"""`mobiletl fit` with the embedded network: real exports, plans and times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands.table import main
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.plan import plan

DEMO = ("fit", "--weights", "demo", "--most-blocks", "1")


def fit(*words: object) -> int:
    return main([*DEMO, *map(str, words)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fit") / "bundle"
    assert fit("--memory", "256MB", "--out", out) == 0
    return out


def test_the_bundle_is_one_to_train(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert (manifest.method.name, manifest.method.blocks) == ("mobiletl", 1)
    assert plan(manifest, 8, 10).total_bytes < 256_000_000
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_json_names_what_there_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--memory", "256MB", "--out", tmp_path / "bundle", "--json") == 0
    found = capsys.readouterr()
    document = json.loads(found.out)
    assert found.err == ""
    assert document["bundle"] == str(tmp_path / "bundle")
    (taken,) = [row for row in document["levels"] if row["chosen"]]
    assert (taken["blocks"], taken["form"], taken["batch"], taken["fits"]) == (
        1,
        "one-bit",
        8,
        True,
    )
    assert taken["planned"] == plan(open_bundle(tmp_path / "bundle").manifest, 8, 10).total_bytes


def test_too_little_names_the_least_and_leaves_what_is_there(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_bundle(bundle).manifest.id
    assert fit("--memory", "40MB", "--out", bundle, "--force") == UsageError.exit_code
    said = capsys.readouterr().err.strip().splitlines()
    assert "nothing keeps to that: the least is" in said[-1]
    assert "exporting 1 block, eight-bit ..." in said
    assert "exporting 1 block, int8 ..." in said
    assert open_bundle(bundle).manifest.id == before


def test_a_network_without_a_form_in_bytes_has_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "mbv3-small", "--weights", "none", "--resolution", "64"]
    words += ["--most-blocks", "1", "--memory", "40MB", "--out", str(tmp_path / "x")]
    assert main(["fit", *words]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert "nothing keeps to that: the least is" in said
    assert "with 1 block, one-bit, 2 pictures a step" in said
    assert "exporting 1 block, int8 ..." in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name --memory, --time or both"),
        (["--memory", "lots"], "--memory"),
        (["--memory", "1GB", "--pictures", "0"], "--pictures is 0"),
        (["--memory", "1GB", "--most-blocks", "0"], "--most-blocks is 0"),
    ],
)
def test_a_wrong_flag_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--out", str(tmp_path / "x"), *words]) == UsageError.exit_code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_bundle_that_is_there_is_not_replaced_unasked(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--memory", "256MB", "--out", bundle) == UsageError.exit_code
    assert "--force" in capsys.readouterr().err
