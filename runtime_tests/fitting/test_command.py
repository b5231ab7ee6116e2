"""`mobiletl fit` with the embedded network: real exports, plans and times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands.table import main
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.plan import plan
from mobiletl.fitting.levels import FORMS

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
        "int8",
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


def test_where_the_shallowest_does_not_fit_no_deeper_one_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", "demo", "--most-blocks", "3", "--memory", "40MB"]
    assert main(["fit", *words, "--out", str(tmp_path / "x")]) == UsageError.exit_code
    *exports, refused = capsys.readouterr().err.strip().splitlines()
    assert exports == [f"exporting 1 block, {form} ..." for form in FORMS]
    assert "nothing keeps to that: the least is" in refused
    assert not list(tmp_path.iterdir())


def test_levels_are_what_has_fewer_blocks_in_one_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", "demo", "--most-blocks", "2", "--memory", "256MB", "--levels", "--json"]
    assert main(["fit", *words, "--out", str(tmp_path / "x")]) == 0
    (taken,) = [row for row in json.loads(capsys.readouterr().out)["levels"] if row["chosen"]]
    bundle = open_bundle(tmp_path / "x")
    assert list(bundle.levels) == [2, 1]
    assert taken["blocks"] == bundle.manifest.method.blocks == 2
    found = [plan(level.manifest, 8, 10).total_bytes for level in (bundle, bundle.at(1))]
    assert found[1] < found[0] == pytest.approx(taken["planned"], abs=2_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


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
