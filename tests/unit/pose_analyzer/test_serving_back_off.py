"""Waits between attempts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from pose_analyzer.serving.back_off import BackOff, ReconnectConfig


def delays_s(n: int, seed: int) -> list[float]:
    back_off = BackOff(ReconnectConfig(), np.random.default_rng(seed))
    return [back_off.next_delay_s() for _ in range(n)]


@given(st.integers(0, 2**32), st.integers(1, 2000))
def test_each_wait_is_within_its_bound(seed: int, n: int) -> None:
    for failure, delay_s in enumerate(delays_s(n, seed)):
        assert 0.0 <= delay_s <= min(30.0, 0.5 * 2.0 ** min(failure, 10))


def test_waits_fill_their_bound_evenly() -> None:
    last_s = [delays_s(8, seed)[-1] for seed in range(400)]
    counts, _ = np.histogram(last_s, bins=4, range=(0.0, 30.0))
    assert counts.sum() == 400
    assert counts.min() > 60


def test_a_reset_back_off_is_as_new() -> None:
    back_off = BackOff(ReconnectConfig(), np.random.default_rng(1))
    for _ in range(9):
        back_off.next_delay_s()
    back_off.reset()
    assert back_off.n_failures == 0
    assert back_off.next_delay_s() <= 0.5
