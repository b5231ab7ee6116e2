"""Lines for programs: which answers get one, and what is in it. docs/live.md is the schema."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from mobiletl.device.announcing.json_lines import JsonLines, summary
from mobiletl.device.prediction.live import Tally
from runtime_tests.support.board.answers import answer
from runtime_tests.support.board.shared_files import REPOSITORY


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def heard(every_s: float | None) -> list[int]:
    stream = io.StringIO()
    with JsonLines(stream, every_s) as hearer:
        for place in range(1, 41):
            changed = place in (1, 18)
            hearer.hear(answer(changed=changed, time_s=1000 + place / 10, frame=place))
    return [line["frame"] for line in lines(stream)]


def test_changes_alone_or_every_frame_or_one_in_so_many_seconds() -> None:
    assert heard(None) == [1, 18]
    assert heard(0) == list(range(1, 41))
    # The seconds count from the line before, a change's too.
    assert heard(1.0) == [1, 11, 18, 28, 38]


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    stream = io.StringIO()
    with JsonLines(stream, 5.0) as hearer:
        for time_s in (1000.0, 10.0, 11.0, 16.0):
            hearer.hear(answer(changed=False, time_s=time_s))
    assert [line["time"] for line in lines(stream)] == [1000.0, 10.0, 16.0]


def test_what_an_answer_says() -> None:
    stream = io.StringIO()
    hearer = JsonLines(stream, None)
    hearer.hear(answer("bee"))
    hearer.hear(answer(None))
    known, unknown = lines(stream)
    assert known == {
        "version": 1,
        "event": "answer",
        "time": 1000.0,
        "frame": 1,
        "changed": True,
        "label": "bee",
        "probability": 0.9,
        "unknown": False,
        "unknown_share": 0.0,
        "probabilities": {"ant": 0.1, "bee": 0.9},
        "frames_per_s": 12.5,
        "this_frame": {
            "label": "bee",
            "probability": 0.9,
            "unknown": False,
            "score": 2.5,
            "threshold": 2.0,
        },
    }
    assert (unknown["label"], unknown["unknown"], unknown["unknown_share"]) == ("ant", True, 1.0)
    assert unknown["this_frame"]["unknown"] is True


def test_any_folder_name_is_one_line_of_json() -> None:
    names = ('"},\n\x1b\udcff', "bee")
    stream = io.StringIO()
    JsonLines(stream, None).hear(answer(names[0], names=names))
    assert stream.getvalue().isascii()
    (line,) = lines(stream)
    assert line["label"] == names[0]


def test_the_page_has_every_key() -> None:
    stream = io.StringIO()
    hearer = JsonLines(stream, None)
    hearer.hear(answer())
    hearer.write("ended", 0.0, summary(Tally(), 0, 1, 2))
    hearer.write("note", 0.0, {"text": ""})
    page = (REPOSITORY / "docs" / "live.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    for line in lines(stream):
        inner = line.get("this_frame", {})
        assert {*line, *inner} <= documented
