"""The simulation of the scheduler: it accounts for all frames, and ours keeps its promises."""

from __future__ import annotations

import numpy as np
import pytest
from scheduler_simulation import TROUBLES, troubled
from simulated_serving import PATTERNS, FixedWindow, Profile, arrival_times, ours, serve

GPU = Profile("GPU", 0.006, 0.001, 8)
SECONDS = 8.0


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_no_window_is_much_better_than_ours(pattern: str) -> None:
    arrivals = arrival_times(pattern, 6, SECONDS)
    mine = serve(ours(), arrivals, GPU).percentile_ms(95)
    windows = [serve(FixedWindow(1e-3 * ms, 6), arrivals, GPU) for ms in (5, 10, 33, 50)]
    assert mine <= min(window.percentile_ms(95) for window in windows) + 1.0


@pytest.mark.parametrize("pattern", ["regular", "bursts", "key frame pauses"])
def test_every_frame_is_analysed_or_dropped_for_a_cause(pattern: str) -> None:
    arrivals = [
        times[times > 2.0]  # Everything counts: none is before the end of the warm-up.
        for times in arrival_times(pattern, 12, SECONDS)
    ]
    outcome = serve(ours(), arrivals, Profile("slow", 0.02, 0.005, 4))
    assert outcome.latency_s.size + sum(outcome.drops.values()) == outcome.n_arrived
    assert outcome.batch_sizes.max() <= 4


@pytest.mark.parametrize("trouble", TROUBLES[:3])
def test_one_stream_in_trouble_does_not_move_the_p95_of_the_others(trouble: str) -> None:
    arrivals = arrival_times("regular", 4, SECONDS)
    before = serve(ours(), arrivals, GPU).percentile_ms(95, (1, 2, 3))
    arrivals[0] = troubled(arrivals[0], trouble, SECONDS)
    after = serve(ours(), arrivals, GPU).percentile_ms(95, (1, 2, 3))
    assert abs(after / before - 1.0) < 0.1


def test_drops_in_overload_are_fair() -> None:
    outcome = serve(ours(), arrival_times("regular", 8, 12.0), Profile("CPU", 0.002, 0.025, 8))
    counts = np.bincount(outcome.stream, minlength=8)
    assert counts.std() / counts.mean() <= 0.05


def test_on_a_cpu_overload_stays_responsive() -> None:
    outcome = serve(ours(), arrival_times("regular", 8, SECONDS), Profile("CPU", 0.002, 0.025, 8))
    # One detection, and at most one interval for which the newest frame has waited.
    assert outcome.percentile_ms(95) < 27.0 + 34.0 + 10.0
