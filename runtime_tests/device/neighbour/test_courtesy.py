"""A run follows the temperature and the work of others, and says so once for each change."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mobiletl.device.errors import UsageError
from mobiletl.device.neighbour import load, others
from mobiletl.device.neighbour.changes import HEAT, LOAD, NO_STAY, Continued, Paused
from mobiletl.device.neighbour.courtesy import Change, Courtesy
from mobiletl.device.neighbour.limits import MachineLimits
from runtime_tests.support.board.thermal_world import Part, World

STEP_S = 0.3
# Bar of the issue: so much above the limit, of the limit.
OVERSHOOT = 0.05


class Bench:
    """A run of steps in a world."""

    def __init__(self, world: World, limits: MachineLimits) -> None:
        self.world = world
        self.courtesy = Courtesy(limits, world.root, world.clock, world.sleep)
        self.said: list[Change] = []
        self.remarks: list[str] = []
        self.courtesy.tell = self.said.append
        self.courtesy.remark = self.remarks.append
        self.stop = False

    def train(self, seconds: float, step_s: float = STEP_S) -> float:
        """Take steps for so long; return the share of the time in which the run worked."""
        began, worked = self.world.now, self.world.worked
        while self.world.now - began < seconds and not self.stop:
            self.world.work(step_s)
            self.courtesy.rest(lambda: self.stop)
        return (self.world.worked - worked) / (self.world.now - began)

    def reasons(self) -> list[tuple[type, str]]:
        return [(type(one), one.reason) for one in self.said]


@pytest.fixture(autouse=True)
def own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of a world is no processor time of this process."""
    monkeypatch.setattr(load, "Others", lambda root, clock: others.Others(root, lambda: 0.0, clock))


def world_of(tmp_path: Path, *parts: tuple[float, float], room: float = 25.0) -> World:
    return World(tmp_path, [Part(*part) for part in parts], room)


# Gain and delay. One part is the first-order model; the others are a die on a heat sink.
MODELS = {
    "quick": [(60.0, 5.0)],
    "medium": [(60.0, 30.0)],
    "slow": [(60.0, 200.0)],
    "die on a sink": [(10.0, 0.8), (45.0, 120.0)],
    "die on a sink, small": [(20.0, 0.4), (30.0, 60.0)],
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("limit", [50.0, 70.0])
@pytest.mark.parametrize("step_s", [0.3, 1.5])
def test_the_temperature_stays_below_the_limit(
    tmp_path: Path, model: str, limit: float, step_s: float
) -> None:
    world = world_of(tmp_path, *MODELS[model])
    bench = Bench(world, MachineLimits(limit))
    bench.train(4 * max(part.seconds for part in world.parts), step_s)
    print(f"{model}, limit {limit:g}, steps of {step_s} s: {world.highest - limit:+.2f}")
    assert world.highest <= limit * (1 + OVERSHOOT)
    share = bench.train(100, step_s)
    # The share at which the model would settle at the limit, and at the start of the band.
    gain = sum(part.gain for part in world.parts)
    at_limit, at_band = ((degrees - world.room) / gain for degrees in (limit, limit - 5.0))
    assert share <= min(1.0, at_limit) + 0.05
    if len(world.parts) == 1:
        # A step that warms by more than the band makes the share coarse.
        coarse = 0.15 if step_s > 0.1 * world.parts[0].seconds else 0.05
        assert share >= min(1.0, at_band) - coarse


def test_the_duty_cycle_follows_the_room(tmp_path: Path) -> None:
    """The sun comes out, and goes: the run works less, and all of the time again."""
    world = world_of(tmp_path, (40.0, 30.0), room=15.0)
    bench = Bench(world, MachineLimits(60.0))
    assert bench.train(600) == pytest.approx(1.0)
    assert bench.said == []
    world.room = 35.0
    bench.train(300)
    warm = bench.train(300)
    assert 0.4 < warm < 0.65
    assert bench.reasons() == [(Paused, HEAT)]
    world.room = 15.0
    assert bench.train(600) > 0.9
    assert bench.train(600) == pytest.approx(1.0)
    assert bench.reasons() == [(Paused, HEAT), (Continued, HEAT)]
    paused, continued = bench.said
    assert isinstance(paused, Paused)
    assert paused.found > 55  # the room has become warm at once
    assert paused.limit == 60
    assert "(cpu-thermal), near the limit of 60: the run pauses between steps" in paused.text
    assert isinstance(continued, Continued)
    assert continued.seconds > 600
    assert 0.4 < continued.share < 0.8
    stay = bench.courtesy.finish()
    assert stay.highest_c == pytest.approx(world.highest, abs=1.0)
    assert stay.paused_s == pytest.approx(world.now - 100.0 - world.worked)


def test_nothing_is_said_again_while_it_stays_warm(tmp_path: Path) -> None:
    bench = Bench(world_of(tmp_path, (10.0, 0.8), (45.0, 120.0)), MachineLimits(60.0))
    bench.train(900)
    assert bench.reasons() == [(Paused, HEAT)]
    bench.courtesy.finish()
    assert bench.reasons() == [(Paused, HEAT), (Continued, HEAT)]


def test_a_room_that_is_hotter_than_the_limit_is_waited_for(tmp_path: Path) -> None:
    world = world_of(tmp_path, (40.0, 10.0), room=75.0)
    bench = Bench(world, MachineLimits(60.0))
    world.work(STEP_S)

    def cooler(seconds: float) -> None:
        world.sleep(seconds)
        if world.now > 700:
            world.room = 20.0

    bench.courtesy._sleep = cooler
    waited = bench.courtesy.rest(lambda: False)
    assert waited > 595
    assert world.degrees < 60


def test_a_stop_is_heard_within_a_moment(tmp_path: Path) -> None:
    world = world_of(tmp_path, (40.0, 10.0), room=75.0)
    bench = Bench(world, MachineLimits(60.0))
    world.work(STEP_S)
    stop_at = world.now + 33.0
    bench.courtesy.rest(lambda: world.now >= stop_at)
    assert stop_at <= world.now <= stop_at + 0.2
    before = world.now
    world.work(STEP_S)
    bench.courtesy.rest(lambda: True)
    assert world.now == before + STEP_S


def test_it_waits_while_others_work(tmp_path: Path) -> None:
    world = world_of(tmp_path, (1.0, 10.0))
    bench = Bench(world, MachineLimits(max_load=1.0))
    # The process itself works on all four cores, which is not the others' work.
    bench.courtesy._load._others._own = world.own  # type: ignore[union-attr]
    assert bench.train(60) == pytest.approx(1.0)
    assert bench.said == []
    world.others, began = 2.0, world.now

    def later(seconds: float) -> None:
        world.sleep(seconds)
        if world.now > began + 300:
            world.others = 0.1

    bench.courtesy._sleep = later
    bench.train(400)
    waited = bench.courtesy.waited_s
    assert 280 < waited < 320
    assert bench.train(60) == pytest.approx(1.0)
    assert bench.reasons() == [(Paused, LOAD), (Continued, LOAD)]
    paused, continued = bench.said
    assert "other programs keep 1." in paused.text
    assert "the limit is 1: the run waits" in paused.text
    assert isinstance(continued, Continued)
    assert continued.share == 0.0
    assert continued.seconds == pytest.approx(waited, abs=20)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (MachineLimits(max_load=2.0), 2.0),
        (MachineLimits(when_busy=True), 0.5),
        (MachineLimits(max_load=2.0, when_busy=True), 0.5),
        (MachineLimits(max_load=0.2, when_busy=True), 0.2),
        (MachineLimits(), None),
    ],
)
def test_the_lower_limit_of_others_counts(limits: MachineLimits, expected: float | None) -> None:
    assert limits.most_cores == expected


@pytest.mark.parametrize("loss", ["garbage", "absurd", "gone"])
def test_a_sensor_that_is_lost_is_said_once(tmp_path: Path, loss: str) -> None:
    world = world_of(tmp_path, (40.0, 10.0), room=40.0)
    bench = Bench(world, MachineLimits(60.0))
    bench.train(120)
    temp, text = world.place / "temp", {"garbage": "\x00\xffhot", "absurd": "999999999"}
    world._write = lambda: None  # type: ignore[method-assign]
    if loss == "gone":
        temp.unlink()
    else:
        temp.write_bytes(text[loss].encode("latin-1"))
    assert bench.train(120) > 0.9
    assert bench.remarks == [
        "the temperature of cpu-thermal cannot be read any more: the run goes on without a limit "
        "of it"
    ]
    assert bench.reasons() == [(Paused, HEAT), (Continued, HEAT)]
    assert bench.train(120) == pytest.approx(1.0)
    assert len(bench.remarks) == 1


def test_a_look_that_fails_once_is_no_loss(tmp_path: Path) -> None:
    world = world_of(tmp_path, (40.0, 10.0), room=40.0)
    bench = Bench(world, MachineLimits(60.0))
    bench.train(60)
    (world.place / "temp").write_text("")
    bench.courtesy.rest(lambda: False)
    bench.train(60)
    assert bench.remarks == []


def test_counts_of_others_that_are_lost_are_said_once(tmp_path: Path) -> None:
    world = world_of(tmp_path, (1.0, 10.0))
    bench = Bench(world, MachineLimits(max_load=1.0))
    bench.train(5)
    world._write = lambda: None  # type: ignore[method-assign]
    (world.root / "proc/stat").write_text("cpu nothing\n")
    assert bench.train(60) == pytest.approx(1.0)
    assert len(bench.remarks) == 1
    assert "cannot be read any more" in bench.remarks[0]


@pytest.mark.parametrize(
    ("zone", "text", "found"),
    [
        ("acpitz", "41000", "acpitz (41000)"),
        ("cpu-thermal", "hot", "cpu-thermal (hot)"),
        ("cpu-thermal", "", "cpu-thermal ()"),
        ("cpu-thermal", "151000", "cpu-thermal (151000)"),
        ("\x1b[31mcpu", "\x1b[2J", r"\x1b[31mcpu (\x1b[2J)"),
    ],
)
def test_a_machine_without_a_sensor_is_refused(
    tmp_path: Path, zone: str, text: str, found: str
) -> None:
    world = world_of(tmp_path, (1.0, 10.0))
    (world.place / "type").write_text(zone)
    (world.place / "temp").write_text(text)
    with pytest.raises(UsageError, match="needs the processor's temperature") as raised:
        Courtesy(MachineLimits(60.0), tmp_path)
    assert found in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_machine_without_any_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found no zone at all"):
        Courtesy(MachineLimits(60.0), tmp_path)
    with pytest.raises(UsageError, match="/proc/stat"):
        Courtesy(MachineLimits(when_busy=True), tmp_path)


def test_without_limits_nothing_is_looked_at(tmp_path: Path) -> None:
    courtesy = Courtesy(MachineLimits(), tmp_path / "missing")
    assert courtesy.rest(lambda: False) == 0.0
    assert courtesy.finish() == NO_STAY


def test_the_firmware_is_heard_where_it_changes(tmp_path: Path) -> None:
    world = world_of(tmp_path, (1.0, 10.0))
    file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    file.write_text("50000\n")
    bench = Bench(world, MachineLimits(80.0))
    bench.train(90)
    assert bench.remarks == []
    file.write_text("50005\n")
    bench.train(90)
    file.write_text("50000\n")
    bench.train(90)
    assert bench.remarks == [
        "the board's firmware reports: under-voltage, throttled",
        "the board's firmware reports: nothing any more",
    ]
    assert bench.courtesy.finish().reported == ("under-voltage", "throttled")


def test_a_world_settles_where_its_model_says(tmp_path: Path) -> None:
    world = world_of(tmp_path, (40.0, 10.0))
    world.work(10.0)
    assert world.degrees == pytest.approx(25 + 40 * (1 - math.exp(-1)), abs=0.01)
    world.work(200.0)
    assert world.degrees == pytest.approx(65, abs=0.01)
