"""A few hundred of the files that `make attack` changes, and what its judge would notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_tests.attacks import mutated_files
from runtime_tests.attacks.mutated_files import _judged, main

KINDS = ("manifest", "level", "state", "store", "metrics", "events", "pictures", "graph")
COUNT = 300


def test_no_file_ends_a_command_otherwise_than_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = tmp_path / "faults.json"
    words = [word for kind in KINDS for word in ("--kind", kind)]
    words += ["--count", str(COUNT), "--seed", "20", "--json", str(faults)]
    code = main(words)
    assert code == 0, json.loads(faults.read_text())
    assert "files, 0 faults" in capsys.readouterr().out


def test_the_judge_notices_what_a_command_must_not_do() -> None:
    assert _judged(4, "", "mobiletl: no\n") == ("", "")
    assert _judged(0, "", "warning: damaged\n") == ("", "")
    assert _judged(4, "\x1b[31m", "mobiletl: no\n")[0] == "control"
    assert _judged(1, "", "mobiletl: please report this\n")[0] == "code"
    assert _judged(4, "", "mobiletl: a\nmobiletl: b\n")[0] == "lines"
    assert _judged(4, "", "")[0] == "lines"
    assert _judged(4, "", f"mobiletl: {'x' * 5000}\n")[0] == "long"


def test_a_process_that_dies_is_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver goes on behind the case at which its process ended."""
    answers = [
        [{"kind": "state", "case": 0, "fault": ""}, {"kind": "state", "case": 1, "fault": "dead"}],
        [{"kind": "state", "case": 2, "fault": ""}],
    ]
    asked: list[int] = []

    def one(cases: list[tuple[str, int]], *_: object) -> list[dict[str, object]]:
        asked.append(len(cases))
        return answers.pop(0)

    monkeypatch.setattr(mutated_files, "_one_process", one)
    cases = [("state", number) for number in range(3)]
    assert [found["fault"] for found in mutated_files._attack(cases, 1)] == ["", "dead", ""]
    assert asked == [3, 1]
