"""What the board does; copied to it and run by its own Python: `python on_board.py FOLDER`.

FOLDER holds `bundle/` and `photos/` (train/ and val/). Opens the bundle, trains, trains again with
the power cut in the middle, resumes, predicts, measures what the install takes. Writes
`FOLDER/results.json`. Needs what the board has: the installed package, the standard library,
Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import platform
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Sequence

from safetensors.numpy import load_file

EPOCHS = 2
# A power cut a few steps later is to find a save of each.
EVERY_STEP = ("--save-every", "1", "--save-budget", "none")
# High enough for the loss to move in ten steps.
LEARNING_RATE = 0.05
CUT_AFTER_SAVES = 3
SAMPLE_S = 0.2
# Of a 64-bit program QEMU puts every mapping of the program below this address and its own above.
GUEST_END = 1 << 40
EMULATOR = "qemu-aarch64"
MOBILETL = Path(sys.executable).with_name("mobiletl")


def main(folder: Path) -> None:
    train: list[Any] = ["train", "--bundle", folder / "bundle", "--data", folder / "photos"]
    train += ["--threads", "1", "--json"]
    fresh: list[Any] = ["--epochs", EPOCHS, "--batch", "8", "--lr", LEARNING_RATE]
    # Losses are compared with those of another processor, whose last bit may be another: in maps of
    # 8 bits, and in the search for a scale, that would become more.
    fresh += ["--start", "random", "--views", 0]

    inspected = json.loads(call("inspect", "--bundle", folder / "bundle", "--json"))
    whole, cut = folder / "whole", folder / "cut"
    started = time.monotonic()
    report, peak = sampled([*train, *fresh, "--out", whole])
    train_seconds = time.monotonic() - started
    cut_power([*train, *fresh, *EVERY_STEP, "--out", cut], cut / "last.safetensors")
    call(*train, "--resume", cut)
    state = whole / "state.safetensors"
    predicted = predict(folder / "bundle", state, folder / "photos" / "val")
    results = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("onnxruntime", "numpy", "pillow")},
        "bundle": inspected["id"],
        "beside_numpy_bytes": installed_bytes(),
        "epochs": [json.loads(line) for line in (whole / "metrics.jsonl").open()],
        "train_seconds": train_seconds,
        "resumed_identical": same_bits(whole, cut),
        "predicted": predicted,
        "peak": peak,
        "planned_bytes": report["memory"]["planned_bytes"],
        "measured_peak_bytes": report["memory"]["measured_peak_bytes"],
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1))


def installed_bytes() -> dict[str, int]:
    """What the install takes beside NumPy, as pip left it (where that was kept) and now."""
    now = call("trim", "--dry-run", "--json")
    kept = Path(f"{sys.prefix}.untrimmed")
    answers = {"pip": kept.read_text() if kept.exists() else now, "trimmed": now}
    return {name: json.loads(answer)["beside_numpy_bytes"] for name, answer in answers.items()}


def start(arguments: Sequence[Any]) -> subprocess.Popen[bytes]:
    command = [str(word) for word in (MOBILETL, *arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr)


def finish(process: subprocess.Popen[bytes], arguments: Sequence[Any]) -> str:
    output = process.communicate()[0].decode()
    if process.returncode:
        words = " ".join(map(str, arguments))
        sys.exit(f"mobiletl {words} ended with {process.returncode}: {output}")
    return output


def call(*arguments: Any) -> str:
    return finish(start(arguments), arguments)


def sampled(arguments: Sequence[Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Run the command and watch its memory; (what it printed, peak bytes of guest and of QEMU).

    VmHWM of an emulated process counts the emulator. So /proc/PID/smaps is read again and again,
    and the program's mappings are summed apart from QEMU's. A step takes several samples here.
    """
    process = start(arguments)
    guest = emulator = 0
    while process.poll() is None:
        sample = resident(process.pid)
        guest, emulator = max(guest, sample[0]), max(emulator, sample[1])
        time.sleep(SAMPLE_S)
    report = json.loads(finish(process, arguments))
    # Peaks between two samples: QEMU never gives memory back, so it held no more at any of them.
    guest = max(guest, report["memory"]["measured_peak_bytes"] - emulator)
    return report, {"guest_bytes": guest, "qemu_bytes": emulator}


def resident(pid: int) -> tuple[int, int]:
    """(bytes of the program, bytes of the emulator) now; without QEMU everything is the program's.

    Only this process' own files in /proc are faked by QEMU; those of a child tell the truth.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines()
    except OSError:
        return 0, 0
    emulated = any(EMULATOR in line for line in lines)
    sums, below = [0, 0], True
    for line in lines:
        if line.startswith("Rss:"):
            sums[0 if below or not emulated else 1] += int(line.split()[1]) * 1024
        elif line[:1] in "0123456789abcdef":
            below = int(line.split("-", 1)[0], 16) < GUEST_END
    return sums[0], sums[1]


def cut_power(arguments: Sequence[Any], saved: Path) -> None:
    """Kill the run without warning once its state was saved a few times."""
    process = start(arguments)
    stamps = set()
    while len(stamps) < CUT_AFTER_SAVES and process.poll() is None:
        # There is no file before the first save, nor for a moment between two of its generations.
        with contextlib.suppress(FileNotFoundError):
            stamps.add(saved.stat().st_mtime_ns)
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        sys.exit(f"the run was over before the power cut, with {process.returncode}")


def same_bits(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bytes in every tensor of the last and the best state."""
    for name in ("last.safetensors", "state.safetensors"):
        one, two = load_file(str(run / name)), load_file(str(other / name))
        if one.keys() != two.keys():
            return False
        if any(one[key].tobytes() != two[key].tobytes() for key in one):
            return False
    return True


def predict(bundle: Path, state: Path, pictures: Path) -> dict[str, str]:
    output = call("predict", "--bundle", bundle, "--state", state, "--json", pictures)
    predictions = json.loads(output)["predictions"]
    return {
        "/".join(Path(each["path"]).parts[-2:]): each["labels"][0]["label"] for each in predictions
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
