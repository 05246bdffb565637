"""BatchScheduler and what it learns: when batches leave, whose turn it is, what is never done."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.serving.arrival_rate import ArrivalRate
from pose_analyzer.serving.batch_scheduler import BatchScheduler, Decision, WaitingFrame
from pose_analyzer.serving.execution_times import ExecutionTimes

GPU_S = (0.010, 0.001)
CPU_S = (0.001, 0.030)


def scheduler(cost: tuple[float, float] = GPU_S, n_streams: int = 4) -> BatchScheduler:
    """Return one that knows the detector's cost and cameras that all sent at 1.0 s."""
    made = BatchScheduler()
    for _ in range(5):
        for size in range(1, 9):
            made.ran(size, cost[0] + cost[1] * size)
    for count in range(31):
        for index in range(n_streams):
            made.arrived(str(index), count / 30.0)
    return made


def waiting(index: int, captured_s: float = 1.0, **settings: float) -> WaitingFrame:
    values = {"since_s": captured_s} | settings
    return WaitingFrame(str(index), 100 + index, captured_s, **values)  # type: ignore[arg-type]


def ran(decision: Decision) -> list[str]:
    return [frame.stream_id for frame in decision.run]


def test_a_full_batch_leaves_at_once() -> None:
    decision = scheduler().decide([waiting(index) for index in range(4)], 1.0, 4)
    assert ran(decision) == ["0", "1", "2", "3"]


def test_a_lone_stream_never_waits() -> None:
    assert ran(scheduler(n_streams=1).decide([waiting(0)], 1.0, 8)) == ["0"]


def test_nobody_waits_for_frames_that_come_after_the_batch_would_be_done() -> None:
    # The other three have just been served; their next frames are 33 ms away.
    assert ran(scheduler().decide([waiting(0)], 1.0, 8)) == ["0"]


def test_frames_that_are_about_to_come_are_waited_for() -> None:
    due_s = 31 / 30.0
    made = scheduler()
    made.arrived("0", due_s)
    decision = made.decide([waiting(0, due_s)], due_s, 8)
    assert decision.run == ()
    assert due_s < decision.wait_until_s < due_s + 0.01


def test_waiting_ends_when_all_are_there() -> None:
    due_s = 31 / 30.0
    made = scheduler()
    for index in range(4):
        made.arrived(str(index), due_s)
    assert len(made.decide([waiting(index, due_s) for index in range(4)], due_s, 8).run) == 4


def test_nobody_waits_for_a_stream_that_is_overdue() -> None:
    assert ran(scheduler().decide([waiting(0, 1.2)], 1.2, 8)) == ["0"]


def test_waiting_that_would_miss_a_deadline_does_not_happen() -> None:
    due_s = 31 / 30.0
    made = scheduler()
    made.arrived("0", due_s)
    # Alone it is done in time; with three more, 14 ms and their margin, it would not be.
    assert ran(made.decide([waiting(0, due_s, budget_s=0.0125)], due_s, 8)) == ["0"]


def test_on_a_cpu_frames_leave_one_by_one_but_on_a_gpu_together() -> None:
    frames = [waiting(index) for index in range(4)]
    assert len(scheduler(CPU_S).decide(frames, 1.0, 8).run) == 1
    assert len(scheduler(GPU_S).decide(frames, 1.0, 8).run) == 4


def test_stale_frames_are_dropped_and_never_those_that_must_not_be() -> None:
    frames = [waiting(0, 0.2), waiting(1, 1.0), waiting(2, 0.2, stale_s=math.inf)]
    decision = scheduler().decide(frames, 1.0, 3)
    assert [frame.stream_id for frame in decision.stale] == ["0"]
    assert sorted(ran(decision)) == ["1", "2"]


def test_a_frame_that_would_be_stale_when_done_is_dropped_but_not_all_of_a_slow_detector() -> None:
    assert scheduler(CPU_S).decide([waiting(0, 0.52)], 1.0, 1).stale
    assert not scheduler(GPU_S).decide([waiting(0, 0.52)], 1.0, 1).stale
    slow = scheduler((0.7, 0.0))
    assert ran(slow.decide([waiting(0, 0.8)], 1.0, 1)) == ["0"]


def test_an_urgent_frame_and_one_of_high_priority_go_first() -> None:
    frames = [waiting(0), waiting(1, budget_s=0.05), waiting(2, priority=1)]
    assert ran(scheduler().decide(frames, 1.0, 1)) == ["2"]
    assert ran(scheduler().decide(frames[:2], 1.0, 1)) == ["1"]


def test_a_batch_holds_at_least_one_frame() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        scheduler().decide([], 0.0, 0)


# Streams that always have a frame waiting, more than the detector can do.


def served(priorities: list[int], size: int, n_batches: int) -> Counter[str]:
    """Count the services of streams in overload, each with a new frame for each batch."""
    made = scheduler(n_streams=len(priorities))
    counts: Counter[str] = Counter()
    since_s = dict.fromkeys(map(str, range(len(priorities))), 1.0)
    number = 1000
    for batch in range(n_batches):
        now_s = 1.0 + 0.02 * batch
        frames = []
        for index, priority in enumerate(priorities):
            number += 1
            name = str(index)
            frames.append(WaitingFrame(name, number, now_s, since_s[name], priority=priority))
        chosen = ran(made.decide(frames, now_s, size))
        counts.update(chosen)
        since_s |= dict.fromkeys(chosen, now_s + 0.02)
    return counts


@given(st.integers(2, 8), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_equal_streams_get_equal_shares(n_streams: int, size: int) -> None:
    counts = served([0] * n_streams, min(size, n_streams), 60)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.lists(st.integers(-10, 10), min_size=2, max_size=6))
@settings(max_examples=10, deadline=None)
def test_nobody_starves_and_more_priority_is_never_less(priorities: list[int]) -> None:
    counts = served(priorities, 1, 300)
    assert len(counts) == len(priorities)
    by_priority = sorted(range(len(priorities)), key=lambda index: priorities[index])
    shares = [counts[str(index)] for index in by_priority]
    assert all(later >= sooner - 2 for sooner, later in itertools.pairwise(shares))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.0, 0.4), st.integers(-10, 10)),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 8),
    st.floats(0.4, 1.2),
)
def test_decisions_keep_order_invent_nothing_and_never_sleep_for_long(
    frames: list[tuple[int, float, int]], most: int, now_s: float
) -> None:
    priorities = {index: priority for index, _, priority in frames}
    captured = sorted(captured_s for _, captured_s, _ in frames)
    waiting_frames = [
        WaitingFrame(str(index), number, captured_s, captured_s, priority=priorities[index])
        for number, ((index, _, _), captured_s) in enumerate(zip(frames, captured, strict=True))
    ]
    decision = scheduler().decide(waiting_frames, now_s, most)
    chosen = [*decision.run, *decision.stale]
    assert len({frame.number for frame in chosen}) == len(chosen)
    assert set(chosen) <= set(waiting_frames)
    assert len(decision.run) <= most
    for index in range(4):
        numbers = [frame.number for frame in decision.run if frame.stream_id == str(index)]
        left = {frame.number for frame in waiting_frames if frame.stream_id == str(index)}
        left -= {frame.number for frame in chosen}
        assert numbers == sorted(numbers)
        assert not (numbers and left) or max(numbers) < min(left)
    if len(decision.stale) < len(waiting_frames) and not decision.run:
        assert now_s < decision.wait_until_s <= now_s + 0.05
    assert decision.run or decision.stale or math.isfinite(decision.wait_until_s)


@given(st.floats(0.0, 0.2), st.floats(0.0, 0.2), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_no_batch_takes_longer_than_the_budget_if_a_smaller_one_does_not(
    batch_s: float, frame_s: float, n_frames: int
) -> None:
    made = scheduler((batch_s, frame_s), n_streams=8)
    alone_s = batch_s + frame_s
    for count in range(1, 1101):  # Probes of other sizes, too.
        frames = [waiting(index, 1.0 + 1e-6 * count) for index in range(n_frames)]
        size = len(made.decide(frames, 1.06, 8).run)
        longest_s = 0.1 if alone_s <= 0.1 else 2.0 * alone_s
        assert batch_s + frame_s * size <= longest_s * (1.0 + 1e-9)


# What is learned.


def test_the_rate_is_counted_over_a_span_and_knows_when_it_does_not_know() -> None:
    rate = ArrivalRate()
    for index in range(15):
        rate.add(index / 25.0)
    assert math.isnan(rate.fps)
    assert rate.remaining_s(0.6) == ()
    rate.add(15 / 25.0)
    assert rate.fps == pytest.approx(25.0)
    assert rate.remaining_s(0.61)[0] == pytest.approx(0.03)
    rate.add(10.0)
    assert math.isnan(rate.fps)


def test_pauses_at_key_frames_do_not_mislead_the_rate() -> None:
    rate = ArrivalRate()
    for second in range(4):
        for index in range(15):
            rate.add(second + 0.5 + 0.001 * index)
        for index in range(15):
            rate.add(second + 1.0 + index / 30.0)
    assert rate.fps == pytest.approx(30.0, rel=0.15)


def test_times_are_learned_for_each_size_and_follow_a_step() -> None:
    times = ExecutionTimes()
    assert times.seconds(4) == 0.0
    times.add(1, 0.010)
    assert times.seconds(8) == pytest.approx(0.010)
    times.add(5, 0.018)
    assert [times.seconds(size) for size in (1, 3, 5, 8)] == pytest.approx(
        [0.010, 0.014, 0.018, 0.024]
    )
    for _ in range(30):
        times.add(5, 0.036)
    assert times.seconds(5) == pytest.approx(0.036, rel=0.01)


def test_a_machine_that_slows_down_slows_all_sizes() -> None:
    times = ExecutionTimes()
    for _ in range(3):
        times.add(1, 0.2)
        times.add(2, 0.4)
    for _ in range(20):
        times.add(1, 0.3)
    assert times.seconds(2) == pytest.approx(0.55, abs=0.03)
    assert times.efficient_size(2, 0.15) == 1


def test_sizes_with_wrong_times_do_not_spoil_each_other_for_ever() -> None:
    times = ExecutionTimes()
    for size, seconds in ((1, 0.011), (8, 0.1)):  # Eight were measured in a bad moment.
        for _ in range(3):
            times.add(size, seconds)
    for _ in range(60):
        times.add(8, 0.018)
        times.add(1, 0.011)
    assert [times.seconds(1), times.seconds(8)] == pytest.approx([0.011, 0.018], rel=0.06)


def test_a_new_size_is_not_taken_to_cost_more_than_its_frames_one_by_one() -> None:
    times = ExecutionTimes()
    for _ in range(3):
        times.add(1, 0.01)
    times.add(2, 1.0)
    assert times.seconds(2) == pytest.approx(0.02)


@given(st.integers(3, 30), st.floats(0.0, 10.0))
def test_one_outlier_leaves_no_trace(position: int, outlier_s: float) -> None:
    times = ExecutionTimes()
    for index in range(40):
        times.add(2, outlier_s if index == position else 0.01)
    assert times.seconds(2) == pytest.approx(0.01)


def test_unknown_sizes_are_entered_slowly_and_not_where_they_do_not_pay() -> None:
    def largest_batch(cost: tuple[float, float]) -> int:
        made, sizes = BatchScheduler(), []
        for batch in range(60):
            frames = [waiting(index) for index in range(8)]
            size = len(made.decide(frames, 1.0 + 0.001 * batch, 8).run)
            made.ran(size, cost[0] + cost[1] * size)
            sizes.append(size)
        assert sizes[:4] == [1, 1, 1, 2]
        return max(sizes)

    assert largest_batch(GPU_S) == 8
    assert largest_batch(CPU_S) == 2
    assert largest_batch((0.0, 0.2)) == 2  # Tried, in vain.
    assert largest_batch((0.1, 0.1)) <= 2  # Four would take half a second, whatever they save.


def test_on_a_slow_cpu_a_batch_of_two_is_tried_twice_and_never_again_soon() -> None:
    made, sizes = BatchScheduler(), []
    for _ in range(900):
        size = len(made.decide([waiting(index) for index in range(8)], 1.0, 8).run)
        made.ran(size, 0.2 * size)
        sizes.append(size)
    assert Counter(sizes) == {1: 898, 2: 2}


def test_sizes_that_were_measured_in_a_bad_moment_are_tried_again() -> None:
    made, sizes = BatchScheduler(), []
    for batch in range(1500):
        frames = [waiting(index) for index in range(8)]
        sizes.append(len(made.decide(frames, 1.0 + 0.0001 * batch, 8).run))
        cost_s = CPU_S if batch < 6 else GPU_S
        made.ran(sizes[-1], cost_s[0] + cost_s[1] * sizes[-1])
    assert sizes[10] == 1
    assert sizes[-2] == 8


def test_full_batches_are_halved_seldom_because_what_is_left_behind_is_late() -> None:
    made = scheduler(n_streams=8)
    frames = [waiting(index) for index in range(8)]
    sizes = Counter(len(made.decide(frames, 1.0, 8).run) for _ in range(2000))
    assert sizes == {8: 1998, 4: 2}


def test_one_size_that_was_slow_once_does_not_split_batches_for_ever() -> None:
    times = ExecutionTimes()
    rng = np.random.default_rng(0)
    for size in range(1, 17):
        times.add(size, (0.002 + 0.0004 * size) * rng.uniform(0.95, 1.05))
    times.add(12, 0.1)
    assert times.efficient_size(12, 0.1) == 12


@pytest.mark.parametrize(("n_frames", "seconds"), [(0, 0.1), (1, -0.1), (1, math.nan)])
def test_a_time_that_cannot_be_is_refused(n_frames: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        ExecutionTimes().add(n_frames, seconds)
