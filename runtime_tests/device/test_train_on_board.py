"""`mobiletl train` as a person runs it: flags, output, exit codes, Ctrl-C, a copied folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import train_on_board
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.commands.table import main as mobiletl
from mobiletl.device.memory.at_rest import runtime_bytes
from mobiletl.device.printable import printable
from mobiletl.device.run import training
from mobiletl.device.run.events_file import read_events
from mobiletl.device.run.options import DEFAULTS
from mobiletl.device.sessions.table import STOCK
from runtime_tests.support.board.picture_folders import damage, write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

Capture = pytest.CaptureFixture[str]
DEVICE = Path(training.__file__).parents[1]
RUINOUS = ("--lr", "1e38", "--start", "random")
ODD_NAMES = ("it's", "Grün 日本", "two\nlines", "\x1b[31mred", "\udcff")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos", {"ant": 10, "bee": 10})


def command(bundle: Path, photos: Path, *more: str) -> list[str]:
    return ["--bundle", str(bundle), "--data", str(photos), "--epochs", "2", *more]


def test_a_run_from_start_to_prediction(
    bundle: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    (photos / "ant" / "notes.txt").write_text("x")
    damage(photos / "ant" / "003.png")
    out = tmp_path / "run"
    assert mobiletl(["train", *command(bundle, photos, "--out", str(out), "--threads", "1")]) == 0
    text, shown = capsys.readouterr()
    assert "2 classes, 16 pictures to train on, 4 to validate on, 1 skipped" in shown
    assert "whole process, peak" in shown.split("before training")[0]
    assert "epoch 2/2" in shown
    lines = text.splitlines()
    assert lines[0].split() == ["validation", "before", "best", *lines[0].split()[3:]]
    assert [line.split()[0] for line in lines[1:5]] == ["loss", "accuracy", "ant", "bee"]
    peak = next(line for line in lines if line.startswith("whole process, peak")).split()
    assert len(peak) == 5  # planned and measured, in separate columns
    assert f"skipped 2 files, listed in {out / 'skipped.txt'}" in text
    assert "ant/notes.txt: not a picture in a known format" in text
    paste = shlex.split(lines[-1])
    assert paste[:2] == ["mobiletl", "predict"]
    assert mobiletl(paste[1:]) == 0
    assert capsys.readouterr().out.split()[0] == paste[-1]
    kept = {entry.name for entry in out.iterdir()}
    assert {
        "state.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "events.jsonl",
        "plot.png",
    } <= kept


def test_json_is_one_object_and_nothing_else(
    bundle: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "run"
    given = ["--out", str(out), "--json", "--seed", "3", "--lr", "0.2", "--no-augment"]
    assert train_on_board.main(command(bundle, photos, *given)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == ["ant", "bee"]
    assert found["pictures"] == {"train": 16, "val": 4}
    assert found["settings"]["seed"] == 3
    assert found["settings"]["lr"] == 0.2
    assert found["settings"]["augment"] is False
    assert found["settings"]["runtime"] == "onnxruntime"
    assert found["last_epoch"]["epoch"] == 2
    assert 0 <= found["before"]["accuracy"] <= 1
    assert found["best"]["class_seen"] == [2, 2]
    assert found["memory"]["planned_bytes"] > runtime_bytes(open_bundle(bundle).manifest, STOCK)
    assert found["memory"]["measured_peak_bytes"] > 20_000_000
    assert Path(found["state"]).is_file()
    assert Path(found["plot"]).is_file()
    assert found["skipped"] == []
    heard = read_events(Path(found["events"]))
    assert heard[-1]["measured_peak_bytes"] == found["memory"]["measured_peak_bytes"]
    assert heard[-1]["best_accuracy"] == found["best"]["accuracy"]
    assert heard[-1]["written"] == found["written"]
    assert found["written"]["bytes"] > 4 * Path(found["state"]).stat().st_size
    hours = found["seconds"] / 3600
    assert found["written"]["bytes"] / hours == pytest.approx(found["written"]["bytes_per_hour"])


def test_defaults(bundle: Path, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(
        train_on_board, "train", lambda options, *rest: seen.append(options) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        train_on_board.main(["--bundle", "b", "--data", "d"])
    (options,) = seen
    assert options.given == {}
    assert options.run.parent == Path("runs")
    assert (options.threads, options.save_every, options.use_cache, options.cache) == (
        0, 200, True, None,
    )  # fmt: skip
    assert dict(DEFAULTS) == {
        "batch": 8,
        "seed": 0,
        "augment": True,
        "val_split": 0.2,
        "micro_batch": 1,
        "start": "closed-form",
        "layout": "auto",
        "decode_memory": 128_000_000,
    }
    assert (options.former, options.replay_bytes) == (None, 50_000_000)
    assert options.save_budget == 500_000_000


def test_odd_class_names_survive_everything(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    photos = write_pictures(tmp_path / "photos", dict.fromkeys(ODD_NAMES, 5))
    out = tmp_path / "run"
    assert train_on_board.main(command(bundle, photos, "--out", str(out))) == 0
    text = capsys.readouterr().out
    for name in ODD_NAMES:
        assert f"  {printable(name)}  " in text
    assert "\x1b" not in text
    _, info = load_state(out / "state.safetensors", open_bundle(bundle).manifest)
    assert info.class_names == tuple(sorted(ODD_NAMES))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--batch", "-1", "--threads", "-2"], "--threads is -2"),
        (["--lr", "nan"], "--lr is nan"),
        (["--lr", "0"], "--lr is 0.0"),
        (["--lr", "1e39"], "--lr is 1e+39"),
        (["--val-split", "1"], "--val-split is 1.0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--out", "a", "--resume", "b"], "give one of them"),
        (["--epochs", "many"], "invalid int value"),
        (["--augment", "--no-augment"], "not allowed with"),
        (["--runtime", "none"], "runtime 'none' is unknown"),
        (["--save-budget", "500"], "--save-budget: invalid parse_budget value: '500'"),
        (["--save-budget", "0MB/h"], "--save-budget: invalid parse_budget value"),
    ],
)
def test_wrong_flags(
    bundle: Path, photos: Path, tmp_path: Path, capsys: Capture, flags: list[str], problem: str
) -> None:
    given = ["--bundle", str(bundle), "--data", str(photos), *flags]
    if "--out" not in flags:
        given += ["--out", str(tmp_path / "run")]
    assert train_on_board.main(given) == 2
    assert problem in capsys.readouterr().err


def test_no_bundle_named(photos: Path, capsys: Capture) -> None:
    assert train_on_board.main(["--data", str(photos)]) == 2
    assert "--bundle" in capsys.readouterr().err


def bad_inputs(bundle: Path, photos: Path, tmp_path: Path) -> dict[str, tuple[list[str], int]]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    one = write_pictures(tmp_path / "one", {"only": 3})
    return {
        "no pictures": (command(bundle, tmp_path / "empty"), 3),
        "one class": (command(bundle, one), 3),
        "no bundle": (command(tmp_path / "empty", photos), 4),
        "no run": (command(bundle, photos, "--resume", str(tmp_path / "empty")), 5),
        "no folder": (command(bundle, photos, "--out", str(tmp_path / "file" / "run")), 6),
        "rate": (command(bundle, photos, "--out", str(tmp_path / "run"), *RUINOUS), 7),
    }


@pytest.mark.parametrize(
    "name", ["no pictures", "one class", "no bundle", "no run", "no folder", "rate"]
)
def test_bad_input_is_one_line_and_a_code(
    bundle: Path, photos: Path, tmp_path: Path, capsys: Capture, name: str
) -> None:
    given, code = bad_inputs(bundle, photos, tmp_path)[name]
    assert train_on_board.main(given) == code
    text, shown = capsys.readouterr()
    assert text == ""
    complaints = [line for line in shown.splitlines() if line.startswith("mobiletl: ")]
    assert len(complaints) == 1
    assert shown.splitlines()[-1] == complaints[0]


def test_a_second_run_in_the_same_folder(
    bundle: Path, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    given = command(bundle, photos, "--out", str(tmp_path / "run"))
    assert train_on_board.main(given) == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    assert train_on_board.main(given) == 0
    assert "the same run was begun in" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    assert train_on_board.main([*given, "--seed", "4"]) == 2
    assert "--seed (0 then, 4 now); go on with it by --resume" in capsys.readouterr().err


def environment() -> dict[str, str]:
    # No mobiletl on the path: the copied folder must do alone.
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def copied(bundle: Path) -> Path:
    """Put device/ into the bundle as an export does, and return the script."""
    shutil.copytree(
        str(DEVICE), str(bundle / "device"), ignore=shutil.ignore_patterns("__pycache__")
    )
    return bundle / "device" / "train_on_board.py"


@pytest.mark.usefixtures("heard_signals")
def test_ctrl_c_saves_and_the_pasted_command_resumes(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    script = copied(bundle)
    start = [sys.executable, str(script), "--data", str(photos), "--threads", "1"]
    start += ["--epochs", "200", "--batch", "4"]
    whole = subprocess.run(
        [*start, "--out", "whole"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert whole.returncode == 0, whole.stderr.decode()
    with subprocess.Popen(
        [*start, "--out", "stopped"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith(b"epoch 2/"):
                break
        running.send_signal(signal.SIGINT)
        said = running.stderr.read().decode()
        assert running.wait() == 130
    assert "stopping after this step" in said
    last = said.splitlines()[-1]
    assert last.startswith("mobiletl: stopped, the state is saved; go on with: python ")
    assert (tmp_path / "stopped" / "plot.png").exists()
    resume = [sys.executable, *shlex.split(last.split("go on with: ")[1])[1:]]
    done = subprocess.run(resume, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    manifest = open_bundle(bundle).manifest
    for name in ("state.safetensors", "last.safetensors"):
        expected, _ = load_state(tmp_path / "whole" / name, manifest)
        found, info = load_state(tmp_path / "stopped" / name, manifest)
        assert {k: v.tobytes() for k, v in found.items()} == {
            k: v.tobytes() for k, v in expected.items()
        }
    assert info.step == 800


@pytest.mark.usefixtures("heard_signals")
def test_second_ctrl_c_stops_at_once(bundle: Path, photos: Path, tmp_path: Path) -> None:
    script = copied(bundle)
    with subprocess.Popen(
        [
            sys.executable,
            str(script),
            "--data",
            str(photos),
            "--epochs",
            "100000",
            "--out",
            "run",
            "--save-budget",
            "none",
        ],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith(b"epoch 2/"):
                break
        # Two of one kind, sent this fast, could become one.
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGTERM)
        said = running.stderr.read().decode()
        assert running.wait() == 130
    assert said.splitlines()[-1] == "mobiletl: stopped"
    _, info = load_state(tmp_path / "run" / "last.safetensors", open_bundle(bundle).manifest)
    assert info.epoch >= 1


def test_help_ends_with_commands_to_paste(capsys: Capture) -> None:
    assert train_on_board.main(["--help"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[lines.index("to paste:") + 1].startswith("  mobiletl train --bundle")
    for line in lines[lines.index("to paste:") + 1 :]:
        train_on_board._parser().parse_args(shlex.split(line)[2:])
