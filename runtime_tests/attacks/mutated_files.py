"""Changes files at random and reads them as commands do: `make attack-files`.

    python -m runtime_tests.attacks.mutated_files --count 20000 --seed 1
    python -m runtime_tests.attacks.mutated_files --kind manifest --case 17 --seed 1

A case fails where a command ends in a traceback, the interpreter dies, more than two seconds of the
processor pass, more memory is taken than twice the file and a constant, an exit code is one of a
bug, an error takes more than one line, or a raw control byte is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Beside twice the file: buffers, and what one command leaves behind.
CONSTANT_BYTES = 24 << 20
# Of address space, so that a case that asks for all memory ends alone.
MOST_ADDRESSES = 6 << 30
MOST_CPU_SECONDS = 2.0
# By the clock, after which a process is ended; the machine may have other things to do.
MOST_SECONDS = 60.0
GOOD_CODES = {0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15}
CONTROL = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n"}


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.worker:
        _work(options)
        return 0
    kinds = options.kind or list(_shares())
    if options.case is not None:
        cases = [(kinds[0], options.case)]
    else:
        cases = list(_cases(kinds, options.count))
    outcomes = list(_attack(cases, options.seed))
    return _report(outcomes, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mutated_files", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=20_000, help="files in all (default: %(default)s)")
    add("--seed", type=int, default=1)
    add("--kind", action="append", choices=list(_shares()), help="default: all")
    add("--case", type=int, help="this one alone")
    add("--json", metavar="FILE", help="write every failure here")
    add("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    add("--cases", help=argparse.SUPPRESS)
    return parser


def _shares() -> dict[str, float]:
    return {
        "manifest": 0.2,
        "level": 0.05,
        "state": 0.2,
        "graph": 0.2,
        "store": 0.1,
        "metrics": 0.05,
        "events": 0.03,
        "pictures": 0.12,
        "weights": 0.05,
    }


def _cases(kinds: Sequence[str], count: int) -> Iterator[tuple[str, int]]:
    shares = _shares()
    total = sum(shares[kind] for kind in kinds)
    for kind in kinds:
        for case in range(max(1, round(count * shares[kind] / total))):
            yield kind, case


def _attack(cases: list[tuple[str, int]], seed: int) -> Iterator[dict[str, Any]]:
    """Run the cases in a process that is started anew whenever it dies."""
    with tempfile.TemporaryDirectory(prefix="mobiletl-attack-") as folder:
        left = list(cases)
        while left:
            done = 0
            for outcome in _one_process(left, seed, Path(folder)):
                done += 1
                yield outcome
            left = left[done:]


def _one_process(cases: list[tuple[str, int]], seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    listed = folder / "cases.json"
    listed.write_text(json.dumps(cases))
    words = [sys.executable, "-m", "runtime_tests.attacks.mutated_files", "--worker"]
    words += [str(folder), "--cases", str(listed), "--seed", str(seed)]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "records")}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        done = 0
        for line in process.stdout:
            done += 1
            yield json.loads(line)
        code = process.wait()
    if done < len(cases):
        kind, case = cases[done]
        yield {"kind": kind, "case": case, "fault": "dead", "text": f"exit code {code}"}


def _work(options: argparse.Namespace) -> None:
    """Run the listed cases, a line of JSON each; a watchdog ends the process after a hang."""
    from runtime_tests.attacks.victims import KINDS, scene_at, warm_up, warm_up_weights

    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scene = scene_at(Path(options.worker) / "scene")
    warm_up(scene)
    cases = json.loads(Path(options.cases).read_text())
    warm = set()
    for kind, case in cases:
        if kind not in warm:
            warm.add(kind)
            if kind == "weights":
                warm_up_weights(scene)
            _one(scene, KINDS[kind], kind, -1, options.seed)
        print(
            json.dumps(_one(scene, KINDS[kind], kind, case, options.seed)), file=answers, flush=True
        )


def _one(scene: Any, attack: Any, kind: str, case: int, seed: int) -> dict[str, Any]:
    import signal

    draw = random.Random(f"{seed} {kind} {case}")
    outcome: dict[str, Any] = {"kind": kind, "case": case, "fault": "", "text": ""}
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(MOST_SECONDS))
    before, began = _reset_peak(), time.process_time()
    try:
        code, out, err = attack(scene, draw)
        outcome["code"] = code
        outcome["fault"], outcome["text"] = _judged(code, out, err)
    except BaseException as error:  # noqa: BLE001 - a traceback is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.name}"
        outcome["fault"] = "memory" if isinstance(error, MemoryError) else "traceback"
        outcome["text"] = f"{type(error).__name__} in {where}: {str(error)[:100]!r}"
    seconds, grown = time.process_time() - began, _peak() - before
    signal.alarm(0)
    if not outcome["fault"] and seconds > MOST_CPU_SECONDS:
        outcome["fault"], outcome["text"] = "slow", f"{seconds:.1f} s of the processor"
    size = max(
        (path.stat().st_size for path in scene.folder.rglob("*") if path.is_file()), default=0
    )
    if not outcome["fault"] and grown > 2 * size + CONSTANT_BYTES:
        outcome["fault"] = "memory"
        outcome["text"] = f"{grown >> 20} MB for a file of {size} bytes"
    scene.restore()
    return outcome


def _judged(code: int, out: str, err: str) -> tuple[str, str]:
    """Return what is wrong with the end of a command."""
    raw = sorted({char for char in out + err if char in CONTROL})
    if raw:
        return "control", f"{raw} in {(out + err)[:200]!r}"
    if code not in GOOD_CODES:
        return "code", f"exit code {code}: {err.strip()[-200:]!r}"
    errors = [line for line in err.splitlines() if line.startswith("mobiletl: ")]
    if code and len(errors) != 1:
        return "lines", f"{len(errors)} lines: {err[:200]!r}"
    if max(map(len, errors), default=0) > 4000:
        return "long", f"a line of {max(map(len, errors))} characters"
    return "", ""


def _reset_peak() -> int:
    """Begin to measure the peak of this process anew, where the system lets it; return its size."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _field("VmRSS")


def _peak() -> int:
    return _field("VmHWM")


def _field(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _report(outcomes: list[dict[str, Any]], options: argparse.Namespace) -> int:
    faults = [outcome for outcome in outcomes if outcome["fault"]]
    for kind in sorted({outcome["kind"] for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if outcome["kind"] == kind]
        counts = Counter(outcome["fault"] or "fine" for outcome in mine)
        codes = Counter(outcome.get("code") for outcome in mine)
        print(f"{kind:<10} {len(mine):>6} files  {dict(counts)}  exit codes {dict(codes)}")
    for text, count in Counter(
        f"{o['kind']}: {o['fault']}: {o['text']}" for o in faults
    ).most_common(40):
        print(f"  {count} x {text}")
    for outcome in faults[:5]:
        print(f"  again: --seed {options.seed} --kind {outcome['kind']} --case {outcome['case']}")
    print(f"{len(outcomes)} files, {len(faults)} faults")
    if options.json:
        Path(options.json).write_text(json.dumps(faults, indent=1))
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
