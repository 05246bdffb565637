from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gpu_optimizer.batch_search import (
    MemoryLine,
    climb,
    largest_that_runs,
    measured_line,
    throughput_batch,
)
from gpu_optimizer.batch_trial import Failure, TrialOutcome

OUT_OF_MEMORY = Failure("torch.OutOfMemoryError", "CUDA out of memory.", "", True)


def outcome(batch: int, peak: int = 0, *, ran: bool = True, latency_s: float = 1.0) -> TrialOutcome:
    return TrialOutcome(
        batch=batch,
        limit_bytes=1000,
        is_fresh=False,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=peak,
        context_bytes=0,
        n_retries=0,
        step_seconds=(9.0, latency_s, latency_s),
        evaluate_seconds=0.0,
        seconds=1.0,
        left_bytes=0,
        failure=None if ran else OUT_OF_MEMORY,
    )


@given(edge=st.integers(0, 500), guess=st.integers(-5, 600))
def test_the_edge_is_found_from_any_guess(edge: int, guess: int) -> None:
    assert largest_that_runs(lambda batch: batch <= edge, guess, 500) == edge


@given(runs=st.lists(st.booleans(), min_size=40, max_size=40), guess=st.integers(1, 40))
def test_what_is_found_was_tried_and_so_was_the_next(runs: list[bool], guess: int) -> None:
    asked: list[int] = []

    def tried(batch: int) -> bool:
        asked.append(batch)
        return runs[batch - 1]

    found = largest_that_runs(tried, guess, 40)
    assert len(set(asked)) == len(asked)
    assert found == 0 or (found in asked and runs[found - 1])
    assert found == 40 or (found + 1 in asked and not runs[found])


@given(edge=st.integers(1, 10**6), off=st.integers(-3, 3))
def test_a_good_guess_needs_few_trials(edge: int, off: int) -> None:
    asked: list[int] = []

    def tried(batch: int) -> bool:
        asked.append(batch)
        return batch <= edge

    largest_that_runs(tried, edge + off, 10**7)
    assert len(asked) <= 2 + 2 * abs(off)


def test_climbing_doubles_until_memory_runs_out() -> None:
    climbed = climb(lambda batch: outcome(batch, ran=batch < 8), 100, lambda _: True)
    assert [item.batch for item in climbed] == [1, 2, 4, 8]
    assert not climbed[-1].ran


def test_climbing_leaves_out_what_will_not_fit() -> None:
    climbed = climb(outcome, 100, lambda batch: batch < 8)
    assert [item.batch for item in climbed] == [1, 2, 4]


@given(fixed=st.integers(0, 10**9), item=st.integers(1, 10**6), limit=st.integers(0, 10**10))
def test_the_line_says_how_many_fit(fixed: int, item: int, limit: int) -> None:
    line = measured_line(outcome(batch, fixed + item * batch) for batch in (1, 2, 4))
    assert line is not None
    most = line.largest_batch(limit, 10**6)
    assert most == 0 or fixed + item * most <= limit
    assert most == 10**6 or fixed + item * (most + 1) > limit


def test_the_line_leaves_out_neighbours_of_the_largest_batch() -> None:
    assert MemoryLine.through([(1, 10), (4, 40), (7, 75), (8, 80)]) == MemoryLine(0.0, 10.0)


def test_memory_that_does_not_grow_allows_any_batch() -> None:
    assert MemoryLine(10.0, 0.0).largest_batch(10, 99) == 99
    assert MemoryLine(10.0, 0.0).largest_batch(9, 99) == 0


@pytest.mark.parametrize(
    ("latencies", "best"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.2, 8: 2.4, 16: 4.8}, 4),
        ({1: 1.0, 2: 1.1, 4: 1.2}, 4),
        ({1: 1.0, 2: 2.5, 4: 2.6}, 1),
        ({1: 1.0, 2: 1.92}, 1),
    ],
)
def test_throughput_stops_where_latency_doubles(latencies: dict[int, float], best: int) -> None:
    timed = [outcome(batch, latency_s=latency) for batch, latency in latencies.items()]
    assert throughput_batch(timed) == best


def test_throughput_of_nothing_timed_is_0() -> None:
    assert throughput_batch([outcome(1, ran=False)]) == 0
