"""The slots between threads: FrameMailbox, ResultQueue, StreamLedger, OrderedPool, BatchRunner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pose_analyzer.errors import DetectorError, StreamError
from pose_analyzer.serving.batch_runner import BatchRunner
from pose_analyzer.serving.frame_mailbox import FrameMailbox
from pose_analyzer.serving.live_stream import StreamConfig
from pose_analyzer.serving.ordered_pool import Lane, OrderedPool
from pose_analyzer.serving.result_queue import LiveResult, ResultQueue, StreamEnd
from pose_analyzer.serving.stream_ledger import StreamLedger
from pose_analyzer.types import Frame, PoseDetections

WAIT_S = 10.0
PICTURE = np.zeros((2, 2, 3), np.uint8)


def at(time_s: float) -> Callable[[], float]:
    return lambda: time_s


def test_a_newer_frame_replaces_the_one_that_waits_and_keeps_its_turn() -> None:
    mailbox: FrameMailbox[str] = FrameMailbox()
    mailbox.open("a")
    assert mailbox.put("a", "old", at(1.0)) == ()
    assert mailbox.put("a", "new", at(2.0)) == ("old",)
    (letter,) = mailbox.look().waiting
    assert (letter.content, letter.arrived_s, letter.since_s) == ("new", 2.0, 1.0)
    assert mailbox.n_replaced == 1


def test_every_arrival_is_seen_once() -> None:
    mailbox: FrameMailbox[str] = FrameMailbox()
    mailbox.open("a")
    for time_s in (1.0, 2.0):
        mailbox.put("a", "frame", at(time_s))
    assert mailbox.look().arrivals == (("a", 1.0), ("a", 2.0))
    assert mailbox.look().arrivals == ()


def test_what_replaced_a_letter_can_be_taken_instead() -> None:
    mailbox: FrameMailbox[str] = FrameMailbox()
    mailbox.open("a")
    mailbox.put("a", "old", at(1.0))
    old = {mailbox.look().waiting[0].number: "a"}
    mailbox.put("a", "new", at(2.0))
    assert mailbox.take(old) == []
    assert [letter.content for letter in mailbox.take(old, or_newer=True)] == ["new"]
    assert mailbox.n_waiting == 0


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_writer_that_must_not_lose_frames_waits_for_room_or_the_end(is_closed: bool) -> None:
    mailbox: FrameMailbox[int] = FrameMailbox()
    mailbox.open("file", depth=2, replaces=False)
    outcomes: list[object] = []
    started = threading.Event()

    def write() -> None:
        for number in range(3):
            if number == 2:
                started.set()
            outcomes.append(mailbox.put("file", number, at(0.0)))

    thread = threading.Thread(target=write)
    thread.start()
    assert started.wait(WAIT_S)
    if is_closed:
        assert mailbox.close("file") == (0, 1)
    else:
        mailbox.take({1: "file"})
    thread.join(WAIT_S)
    assert outcomes == [(), (), None if is_closed else ()]


def test_lines_are_named_once_and_hold_something() -> None:
    mailbox: FrameMailbox[int] = FrameMailbox()
    mailbox.open("a")
    with pytest.raises(ValueError, match="its own name"):
        mailbox.open("a")
    with pytest.raises(ValueError, match="at least 1"):
        mailbox.open("b", depth=0)
    assert mailbox.put("nobody", 1, at(0.0)) is None


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.integers(0, 3)),
    ),
    max_size=60,
)


@given(actions, st.integers(1, 3))
def test_a_mailbox_loses_doubles_and_reorders_nothing(
    steps: list[tuple[str, int]], depth: int
) -> None:
    mailbox: FrameMailbox[int] = FrameMailbox()
    for index in range(4):
        mailbox.open(str(index), depth)
    n_put, replaced = 0, 0
    taken: list[list[int]] = [[] for _ in range(4)]
    for kind, index in steps:
        if kind == "put":
            n_put += 1
            replaced += len(mailbox.put(str(index), n_put, at(float(n_put))) or ())
        else:
            first = [x for x in mailbox.look().waiting if x.stream_id == str(index)][:1]
            numbers = {letter.number: letter.stream_id for letter in first}
            taken[index] += [letter.content for letter in mailbox.take(numbers)]
        assert mailbox.n_waiting <= 4 * depth
    assert n_put == replaced + sum(len(each) for each in taken) + mailbox.n_waiting
    assert all(each == sorted(set(each)) for each in taken)


# Results.


def result(index: int, play_clip: Callable[..., object]) -> LiveResult:
    analysis = play_clip(n_reps=1).analyses[index]  # type: ignore[attr-defined]
    frame = Frame(PICTURE, index / 30.0, index)
    return LiveResult("a", frame, analysis, index / 30.0, index / 30.0)


def test_a_slow_client_loses_old_results_but_no_repetition(
    play_clip: Callable[..., object],
) -> None:
    queue = ResultQueue(depth=2)
    displaced = [queue.put(result(index, play_clip)) for index in (59, 60, 10, 11)]
    assert displaced == [0, 0, 1, 1]
    first, second = queue.take(WAIT_S), queue.take(WAIT_S)
    assert first is not None
    assert second is not None
    assert (first.frame.index, second.frame.index) == (10, 11)
    assert len(first.analysis.finished) == 1
    assert first.analysis.cue is not None
    assert second.analysis.finished == ()


def test_a_client_gets_what_is_left_and_then_the_error(play_clip: Callable[..., object]) -> None:
    queue = ResultQueue()
    assert queue.take(timeout_s=0.0) is None
    queue.put(result(3, play_clip))
    queue.end(StreamEnd("a", StreamError("the stream broke")))
    ended_before_after = [queue.is_ended, queue.take() is not None, queue.is_ended]
    assert ended_before_after == [False, True, True]
    with pytest.raises(StreamError, match="broke"):
        queue.take()


@given(st.lists(st.sampled_from(["push", "deliver", "displace", "drop"]), max_size=50))
def test_pushed_is_always_the_sum_of_what_became_of_it(steps: list[str]) -> None:
    ledger = StreamLedger()
    for step in steps:
        ledger.push()
        if step == "deliver":
            ledger.deliver()
        elif step == "displace":
            ledger.deliver(n_displaced=1)
        elif step == "drop":
            ledger.drop("stale")
    counts = ledger.counts()
    assert counts.pushed == len(steps)
    assert counts.dropped.get("backpressure", 0) == steps.count("displace")
    assert counts.in_flight == steps.count("push")
    assert counts.pushed == counts.delivered + sum(counts.dropped.values()) + counts.in_flight


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": 11},
        {"priority": 1.5},
        {"budget_s": 0.0},
        {"stale_s": float("nan")},
        {"policy": "some"},
        {"depth": 0},
        {"depth": 1.5},
    ],
)
def test_a_stream_is_configured_within_limits(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        StreamConfig(**wrong)  # type: ignore[arg-type]


# Workers.


def test_each_lane_keeps_its_order_and_none_waits_for_another() -> None:
    pool: OrderedPool[int] = OrderedPool(2)
    is_free = threading.Event()
    done: dict[str, list[int]] = {"held": [], "free": []}
    all_free = threading.Event()

    def hold(item: int) -> None:
        assert is_free.wait(WAIT_S)
        done["held"].append(item)

    def note(item: int) -> None:
        done["free"].append(item)
        if item == 99:
            all_free.set()

    held, free = Lane(hold), Lane(note)
    for item in range(100):
        pool.submit(held, item)
        pool.submit(free, item)
    assert all_free.wait(WAIT_S)
    assert done["held"] == []
    is_free.set()
    assert pool.close(time.monotonic() + WAIT_S) == []
    assert done == {"held": list(range(100)), "free": list(range(100))}


def test_a_lane_that_may_not_run_waits_until_it_is_woken() -> None:
    pool: OrderedPool[int] = OrderedPool(1)
    may_run, done = threading.Event(), threading.Event()
    lane: Lane[int] = Lane(lambda _: done.set(), may_run.is_set)
    pool.submit(lane, 1)
    may_run.set()
    pool.wake(lane)
    assert done.wait(WAIT_S)
    assert pool.close(time.monotonic() + WAIT_S) == []


def test_a_lane_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    pool: OrderedPool[int] = OrderedPool(1)
    done: list[float] = []
    lane: Lane[int] = Lane(lambda item: done.append(1.0 / item))
    for item in (1, 0, 2):
        pool.submit(lane, item)
    assert pool.close(time.monotonic() + WAIT_S) == []
    assert done == [1.0, 0.5]
    assert "its lane goes on" in caplog.text


class Picky:
    """Fails on frames of some indices, and on batches that are too large."""

    def __init__(self, bad: set[int], most: int = 100) -> None:
        self.bad = bad
        self.most = most
        self.sizes: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        self.sizes.append(len(frames))
        if len(frames) > self.most:
            raise DetectorError("CUDA out of memory")
        if self.bad & {frame.index for frame in frames}:
            raise DetectorError("no")
        return [PoseDetections.empty() for _ in frames]


@given(st.integers(1, 16), st.sets(st.integers(0, 15)))
def test_exactly_the_frames_that_fail_are_dropped(n_frames: int, bad: set[int]) -> None:
    frames = [Frame(PICTURE, float(index), index) for index in range(n_frames)]
    outcome = BatchRunner(Picky(bad), 16, at(0.0)).run(frames)
    failed = {index for index, item in enumerate(outcome.detections) if item is None}
    assert failed == bad & set(range(n_frames))
    assert outcome.is_clean == (not failed)


def test_one_bad_frame_costs_few_calls() -> None:
    picky = Picky({5})
    BatchRunner(picky, 16, at(0.0)).run([Frame(PICTURE, float(i), i) for i in range(16)])
    assert len(picky.sizes) <= 2 * 4 + 2


def test_without_memory_batches_shrink_and_grow_again_later() -> None:
    now_s = [0.0]
    runner = BatchRunner(Picky(set(), most=4), 16, lambda: now_s[0])
    outcome = runner.run([Frame(PICTURE, float(index), index) for index in range(16)])
    assert None not in outcome.detections
    assert runner.max_batch == 4
    now_s[0] = 31.0
    assert runner.max_batch == 16


def test_the_detectors_own_limit_counts() -> None:
    picky = Picky(set())
    picky.max_batch = 3  # type: ignore[attr-defined]
    assert BatchRunner(picky, 16, at(0.0)).max_batch == 3


def test_taking_nothing_is_no_change() -> None:
    mailbox: FrameMailbox[int] = FrameMailbox()
    mailbox.open("a")
    version = mailbox.look().version
    assert mailbox.take({}) == []
    assert mailbox.take({7: "a"}) == []
    assert mailbox.look().version == version
