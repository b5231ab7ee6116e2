"""Flower's SecAgg+ between a server and boards in this process: all of it but the network."""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage

from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.errors import BadRound, MobileTLError, SitsOut
from mobiletl.device.fleet import sums
from mobiletl.device.fleet.asked import asked_of, personal_names
from mobiletl.device.fleet.client_app import (
    ARRAYS,
    CONFIG,
    FAILED,
    PICTURES,
    SITS_OUT,
    contents_of,
    record_of,
)
from mobiletl.device.fleet.wire import read_down
from mobiletl.fleet import summed
from mobiletl.fleet.folder import FleetFolder
from mobiletl.fleet.guarded import Guarded
from mobiletl.fleet.plan import Plan
from mobiletl.fleet.server_app import serve_rounds
from mobiletl.fleet.summed import Summed
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT
from runtime_tests.support.fleet_rounds import (
    BOARDS,
    CLASSES,
    SHAPES,
    AnsweringGrid,
    guarded_strategy,
    tensors,
    tiny_plan,
)

GONE = Error(5, "node unavailable")
# A number of 32 bits less those for five boards, in changes of at most CLIPPED_TO.
ROUNDING = 1e-5


class Boards(AnsweringGrid):
    """Boards that take part in a sum; what each sends is kept in `seen`."""

    def __init__(self, plan: Plan, steps: dict[int, float]) -> None:
        super().__init__(steps)
        self.steps = steps
        self.manifest = read_manifest(plan.bundle)
        self.home = personal_names(self.manifest, plan.personal)
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in steps
        }
        self.fails: dict[int, tuple[str, Any]] = {}
        self.seen: dict[int, list[Any]] = {}
        self.spoil: Any = lambda configs: None
        self.spoil_answer: dict[int, tuple[str, Any]] = {}
        self.refusals: list[str] = []

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        # As the network does: a board has a message of its own.
        message.content = RecordDict(dict(message.content))
        configs = ConfigRecord(dict(message.content.config_records[RECORD_KEY_CONFIGS]))
        message.content.config_records[RECORD_KEY_CONFIGS] = configs
        stage, error = self.fails.get(node, ("", None))
        asked_stage = configs[Key.STAGE]
        if stage == asked_stage and isinstance(error, Error):
            return Message(error, reply_to=message)
        self.spoil(configs)
        try:
            content = sums.take_part(
                message, self.contexts[node], lambda: self.trained(message, node, error)
            )
        except MobileTLError as found:
            self.refusals.append(str(found))
            code = SITS_OUT if isinstance(found, SitsOut) else FAILED
            return Message(Error(code, f"board {node}: {found}"), reply_to=message)
        sent = content.config_records[RECORD_KEY_CONFIGS].get(Key.MASKED_PARAMETERS, [])
        if sent:
            self.seen[node] = [bytes_to_ndarray(part) for part in sent]
            assert not any(content.array_records.values()), "unmasked parameters leave the board"
        stage, spoil = self.spoil_answer.get(node, ("", None))
        if stage == asked_stage:
            spoil(content)
        return Message(content, reply_to=message)

    def trained(self, message: Message, node: int, error: Any) -> RecordDict:
        if isinstance(error, MobileTLError):
            raise error
        asked = asked_of(dict(message.content.config_records[CONFIG]), self.manifest)
        assert asked.secagg
        began = read_down(contents_of(message.content.array_records[ARRAYS]), SHAPES)
        ended = {
            n: t + np.float32(self.steps[node]) for n, t in began.items() if n not in self.home
        }
        return sums.fit_record(began, ended, 10 * node, {"board": f"board {node}", "loss": 0.5})


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(tmp_path, secagg=True)


def steps() -> dict[int, float]:
    """Of boards 1 to BOARDS; board n has 10 n pictures."""
    return {node: 0.01 * node for node in range(1, BOARDS + 1)}


def mean(nodes: Iterable[int]) -> float:
    chosen = list(nodes)
    return sum(10 * n * 0.01 * n for n in chosen) / sum(10 * n for n in chosen)


def one_round(plan: Plan, grid: Boards, rounds: int = 1) -> tuple[dict[str, Any], Guarded]:
    guarded = guarded_strategy(plan)
    result = guarded.start(
        Summed(grid, personal_names(grid.manifest, plan.personal)),
        record_of(tensors(1.0)),
        num_rounds=rounds,
        timeout=10,
    )
    return {name: array.numpy() for name, array in result.arrays.items()}, guarded


def test_the_sum_is_the_weighted_mean_of_all_boards(plan: Plan) -> None:
    found, guarded = one_round(plan, Boards(plan, steps()))
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (np.float32, SHAPES[name])
        np.testing.assert_allclose(tensor, 1 + mean(steps()), atol=ROUNDING)
    assert sorted(one.board for one in guarded.record.taken) == [f"board {n}" for n in steps()]
    assert {one.pictures for one in guarded.record.taken} == {10 * n for n in steps()}


@pytest.mark.parametrize("name", ["fedprox", "fedadam"])
def test_the_other_strategies_take_a_sum_too(plan: Plan, name: str) -> None:
    plan = replace(plan, strategy=name)
    found, _ = one_round(plan, Boards(plan, steps()))
    assert ((found[WEIGHT] > 1.005) & (found[WEIGHT] < 1.06)).all()
    # Statistics are averaged, whatever the strategy.
    np.testing.assert_allclose(found[MEAN], 1 + mean(steps()), atol=ROUNDING)


def test_what_a_board_sends_says_nothing(plan: Plan) -> None:
    """Two rounds of the same changes: what goes out is uniform, and never the same twice."""
    grid = Boards(plan, steps())
    one_round(plan, grid)
    first = {node: np.concatenate([p.ravel() for p in sent]) for node, sent in grid.seen.items()}
    one_round(plan, grid)
    second = {node: np.concatenate([p.ravel() for p in sent]) for node, sent in grid.seen.items()}
    for node, sent in first.items():
        assert (sent != second[node]).mean() > 0.99
    drawn = np.concatenate([*first.values(), *second.values()])
    assert drawn.min() >= 0
    assert drawn.max() < sums.MODULUS
    # 210 uniform numbers: the mean of half a range lies within 5 standard errors of its middle.
    error = sums.MODULUS / np.sqrt(12 * drawn.size)
    assert abs(drawn.mean() - sums.MODULUS / 2) < 5 * error


@pytest.mark.parametrize("stage", [Stage.SETUP, Stage.SHARE_KEYS, Stage.COLLECT_MASKED_VECTORS])
def test_a_board_that_is_lost_is_left_out_of_the_sum(plan: Plan, stage: str) -> None:
    grid = Boards(plan, steps())
    grid.fails = {3: (stage, GONE)}
    found, guarded = one_round(plan, grid)
    np.testing.assert_allclose(found[WEIGHT], 1 + mean({1, 2, 4, 5}), atol=ROUNDING)
    assert guarded.record.lost == ["node 3: node unavailable"]
    assert len(guarded.record.taken) == BOARDS - 1


def test_a_board_that_is_lost_at_the_end_has_been_counted(plan: Plan) -> None:
    """Its neighbours have what takes its masks off the sum."""
    grid = Boards(plan, steps())
    grid.fails = {3: (Stage.UNMASK, GONE)}
    found, _ = one_round(plan, grid)
    np.testing.assert_allclose(found[WEIGHT], 1 + mean(steps()), atol=ROUNDING)


def test_a_board_that_sits_out_says_why(plan: Plan) -> None:
    grid = Boards(plan, steps())
    grid.fails = {2: ("", SitsOut("it is hot"))}
    found, guarded = one_round(plan, grid)
    np.testing.assert_allclose(found[WEIGHT], 1 + mean({1, 3, 4, 5}), atol=ROUNDING)
    assert guarded.record.out == ["board 2: it is hot"]


def test_too_few_boards_change_nothing(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    grid = Boards(plan, steps())
    grid.fails = dict.fromkeys((1, 2, 3), (Stage.COLLECT_MASKED_VECTORS, GONE))
    with caplog.at_level(logging.WARNING):
        found, guarded = one_round(plan, grid)
    assert found == {}
    assert guarded.record.dropped == "0 of 5 boards have sent what fits"
    assert "too few boards have answered for a sum" in caplog.text


def test_what_stays_at_home_is_not_in_the_sum(plan: Plan) -> None:
    plan = replace(plan, personal="head")
    found, _ = one_round(plan, Boards(plan, steps()))
    assert (found[WEIGHT] == 1.0).all()
    np.testing.assert_allclose(found[MEAN], 1 + mean(steps()), atol=ROUNDING)


def test_a_sum_that_jumps_is_refused(plan: Plan) -> None:
    """No board can be told from the others, so the round is lost and not the fleet."""
    grid = Boards(plan, steps())
    guarded = guarded_strategy(replace(plan, rounds=2))
    usual = guarded.start(Summed(grid, frozenset()), record_of(tensors(1.0)), num_rounds=1)
    grid.steps = {**steps(), 5: 2.0}
    jumped = guarded.start(Summed(grid, frozenset()), usual.arrays, num_rounds=1)
    assert len(jumped.arrays) == 0
    assert len(guarded.record.refused) == BOARDS
    assert "times as large as in the round before" in guarded.record.refused[0].why


def test_a_server_that_was_killed_goes_on(plan: Plan, tmp_path: Path) -> None:
    manifest = read_manifest(plan.bundle)
    folder = FleetFolder(tmp_path / "fleet")
    folder.path.mkdir()
    folder.save(manifest, CLASSES, tensors(1.0), 0)
    for rounds in (1, 3):
        replace(plan, rounds=rounds).write(folder.path)
        # New contexts: boards have been started again as well.
        serve_rounds(Boards(plan, steps()), folder)
    assert [line["round"] for line in folder.read_rounds()] == [1, 2, 3]
    assert all(len(line["boards"]) == BOARDS for line in folder.read_rounds())
    found, _ = folder.load(manifest)
    np.testing.assert_allclose(found[WEIGHT], 1 + 3 * mean(steps()), atol=3 * ROUNDING)


CURIOUS = {
    "two boards": (Stage.SETUP, {Key.SAMPLE_NUMBER: 2}, "asks 2 boards"),
    "one part": (Stage.SETUP, {Key.SHARE_NUMBER: 1}, "asks for 1 parts"),
    "half": (Stage.SETUP, {Key.THRESHOLD: 2}, "2 of 5 parts are enough"),
    "a small range": (Stage.SETUP, {Key.MOD_RANGE: 1 << 20}, "modulo 1048576"),
    "sums that overflow": (Stage.SETUP, {Key.TARGET_RANGE: 1 << 31}, "a sum of 5 holds"),
    "infinite changes": (Stage.SETUP, {Key.CLIPPING_RANGE: float("inf")}, "cut to inf"),
    "a small weight": (Stage.SETUP, {Key.MAX_WEIGHT: 1.0}, "the largest weight is 1.0"),
    "no number": (Stage.SETUP, {Key.THRESHOLD: "all"}, "'all' of 5 parts"),
    "other keys": (Stage.SHARE_KEYS, {"7": [b"x", b"y"]}, "makes no sense"),
    "cut off": (Stage.COLLECT_MASKED_VECTORS, {Key.CIPHERTEXT_LIST: [b"x"] * 4}, "makes no sense"),
    "both secrets": (Stage.UNMASK, {Key.DEAD_NODE_ID_LIST: [1]}, "has answered and as one that"),
    "out of turn": (Stage.SHARE_KEYS, {Key.STAGE: Stage.UNMASK}, "names no boards"),
}


@pytest.mark.parametrize("kind", CURIOUS)
def test_a_server_that_wants_to_see_one_board_is_refused(plan: Plan, kind: str) -> None:
    stage, changed, said = CURIOUS[kind]
    grid = Boards(plan, steps())

    def spoil(configs: ConfigRecord) -> None:
        if configs[Key.STAGE] == stage:
            configs.update(changed)

    grid.spoil = spoil
    _, guarded = one_round(plan, grid)
    assert not guarded.record.taken
    assert said in grid.refusals[0], grid.refusals[0]


def masked(change: Any) -> Any:
    def spoil(content: RecordDict) -> None:
        record = content.config_records[RECORD_KEY_CONFIGS]
        arrays = [bytes_to_ndarray(part) for part in record[Key.MASKED_PARAMETERS]]
        record[Key.MASKED_PARAMETERS] = [ndarray_to_bytes(array) for array in change(arrays)]

    return spoil


def without(name: str) -> Any:
    return lambda content: content.config_records[RECORD_KEY_CONFIGS].pop(name)


BROKEN = {
    "another shape": (Stage.COLLECT_MASKED_VECTORS, masked(lambda a: [a[0], *a[2:]])),
    "floats": (Stage.COLLECT_MASKED_VECTORS, masked(lambda a: [x * np.nan for x in a])),
    "too large": (Stage.COLLECT_MASKED_VECTORS, masked(lambda a: [100 * x for x in a])),
    "nothing": (Stage.COLLECT_MASKED_VECTORS, without(Key.MASKED_PARAMETERS)),
    "no key": (Stage.SETUP, without(Key.PUBLIC_KEY_2)),
    "no secrets": (Stage.SHARE_KEYS, without(Key.CIPHERTEXT_LIST)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_board_is_left_out_and_named(
    plan: Plan, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage, spoil = BROKEN[kind]
    grid = Boards(plan, steps())
    grid.spoil_answer = {3: (stage, spoil)}
    with caplog.at_level(logging.WARNING):
        found, guarded = one_round(plan, grid)
    np.testing.assert_allclose(found[WEIGHT], 1 + mean({1, 2, 4, 5}), atol=ROUNDING)
    assert len(guarded.record.lost) == 1
    assert "node 3: its part in the sum makes no sense" in caplog.text


def test_parts_of_secrets_that_do_not_fit_cost_the_round(
    plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(content: RecordDict) -> None:
        record = content.config_records[RECORD_KEY_CONFIGS]
        record[Key.SHARE_LIST] = [bytes(len(part)) for part in record[Key.SHARE_LIST]]

    grid = Boards(plan, steps())
    grid.spoil_answer = {3: (Stage.UNMASK, spoil)}
    with caplog.at_level(logging.WARNING):
        found, guarded = one_round(plan, grid)
    assert found == {}
    assert guarded.record.dropped == "0 of 5 boards have sent what fits"
    assert "the masks do not come off" in caplog.text


def test_numbers_that_are_not_finite_never_enter_a_sum() -> None:
    ended = {**tensors(1.0), BIAS: np.array([np.nan, 1], np.float32)}
    with pytest.raises(BadRound, match="not finite"):
        sums.fit_record(tensors(1.0), ended, 10, {})


def test_many_pictures_count_as_the_most_that_a_sum_holds() -> None:
    record = sums.fit_record(tensors(1.0), tensors(1.5), 10 * sums.MOST_WEIGHT, {})
    assert record.metric_records["fitres.num_examples"]["num_examples"] == sums.MOST_WEIGHT
    assert PICTURES not in record.metric_records


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)])
def test_masks_follow_from_the_seed_alone(shape: tuple[int, ...]) -> None:
    first, second = (sums.masks_of(b"seed", sums.MODULUS, [shape, (7,)]) for _ in range(2))
    other = sums.masks_of(b"sEed", sums.MODULUS, [shape, (7,)])
    assert first[0].shape == shape
    assert first[0].dtype == np.int64
    for one, two in ((first[0], second[0]), (first[1], second[1])):
        np.testing.assert_array_equal(one, two)
    assert (first[1] != other[1]).all()
    with pytest.raises(BadRound, match="expected 4294967296"):
        sums.masks_of(b"seed", 1 << 16, [shape])


def test_masks_are_the_key_stream_of_chacha20() -> None:
    """Against the block function as RFC 8439 writes it, for the SHA-256 of the seed and no nonce;
    its own first test vector (appendix A.1) comes first.
    """
    assert chacha20_block(bytes(32), 0).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    key = hashlib.sha256(b"seed").digest()
    stream = b"".join(chacha20_block(key, counter) for counter in range(3))
    drawn = sums.masks_of(b"seed", sums.MODULUS, [(5,), (2, 20)])
    found = np.concatenate([mask.ravel() for mask in drawn])
    np.testing.assert_array_equal(found, np.frombuffer(stream, "<u4")[: found.size])


@pytest.mark.parametrize("module", [sums.flower, summed.flower])
def test_both_sides_of_flowers_protocol_draw_these_masks(module: Any) -> None:
    assert module.pseudo_rand_gen is sums.masks_of


def chacha20_block(key: bytes, counter: int) -> bytes:
    """RFC 8439, section 2.3, with a nonce of zeros."""

    def turn(x: list[int], a: int, b: int, c: int, d: int) -> None:
        for first, second, third, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[first] = (x[first] + x[second]) & 0xFFFFFFFF
            mixed = x[third] ^ x[first]
            x[third] = ((mixed << by) | (mixed >> (32 - by))) & 0xFFFFFFFF

    constants = struct.unpack("<4I", b"expand 32-byte k")
    begun = [*constants, *struct.unpack("<8I", key), counter, 0, 0, 0]
    x = list(begun)
    for _ in range(10):
        for column in range(4):
            turn(x, column, column + 4, column + 8, column + 12)
        for place in range(4):
            turn(x, place, 4 + (place + 1) % 4, 8 + (place + 2) % 4, 12 + (place + 3) % 4)
    return struct.pack("<16I", *((x[row] + begun[row]) & 0xFFFFFFFF for row in range(16)))
