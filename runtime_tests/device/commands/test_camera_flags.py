"""Camera flags say what is wanted, and everything that is wrong with them at once."""

from __future__ import annotations

import pytest

from mobiletl.device.bundle.view import AskedView, View
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.commands.camera_flags import add_camera, camera_of, camera_problems
from mobiletl.device.commands.parser import Parser


def flags(*words):
    parser = Parser(prog="test", description="", epilog="")
    add_camera(parser)
    return parser.parse_args(list(words))


def test_nothing_is_asked_for_by_default():
    assert camera_problems(flags()) == []
    assert camera_of(flags()) == (None, Wanted(), AskedView())


def test_all_of_them():
    words = ["--camera", "0", "--camera-size", "1280x720", "--camera-rate", "15", "--lock-exposure"]
    found = flags(*words, "--rotate", "270", "--roi", "0.25,0,0.5,1")
    assert camera_problems(found) == []
    wanted = Wanted(1280, 720, 15.0, True)
    assert camera_of(found) == ("0", wanted, AskedView(270, (0.25, 0.0, 0.5, 1.0)))


def test_each_flag_of_the_view_overrides_itself_alone():
    kept = View(90, (0.0, 0.0, 1.0, 0.5))
    turned = camera_of(flags("--camera", "0", "--rotate", "0")).view
    cut = camera_of(flags("--camera", "0", "--roi", "0,0,0.5,1")).view
    assert (turned.over(kept), turned.over(None)) == (View(0, kept.region), View())
    assert (cut.over(kept), cut.over(None)) == (
        View(90, (0, 0, 0.5, 1)),
        View(0, (0, 0, 0.5, 1)),
    )
    assert camera_of(flags("--camera", "0")).view.over(kept) == kept


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--camera-size", "1280"], "--camera-size is '1280', expected width and height"),
        (["--camera-size", "0x720"], "--camera-size is '0x720'"),
        (["--camera-size", "99999x99999"], "--camera-size is '99999x99999'"),
        (["--camera-rate", "0"], "--camera-rate is 0, expected more than 0"),
        (["--camera-rate", "nan"], "--camera-rate is nan"),
        (["--rotate", "45"], "--rotate is 45, expected 0, 90, 180 or 270"),
        (["--roi", "1,2,3"], "--roi is '1,2,3', expected four numbers"),
        (["--roi", "0,0,1,nan"], "--roi is '0,0,1,nan', expected four numbers"),
        (["--roi", "0.5,0,0.6,1"], "--roi is 0.5,0,0.6,1, expected left,top"),
        (["--roi", "0,0,0,1"], "--roi is 0,0,0,1"),
    ],
)
def test_what_makes_no_sense(words, problem):
    found = camera_problems(flags("--camera", "0", *words))
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_everything_is_said_at_once():
    wrong = flags("--camera", " ", "--camera-size", "a", "--rotate", "1", "--roi", "b")
    assert len(camera_problems(wrong)) == 4


def test_a_flag_of_a_camera_needs_one():
    found = camera_problems(flags("--rotate", "0", "--lock-exposure"))
    assert found == [
        "--lock-exposure is of a camera; name one with --camera",
        "--rotate is of a camera; name one with --camera",
    ]
