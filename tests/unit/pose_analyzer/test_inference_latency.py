"""LatencyWindow: percentiles in bounded memory."""

from __future__ import annotations

import math

import pytest

from pose_analyzer.inference.latency import LatencyWindow


def test_nothing_is_known_before_the_first_call() -> None:
    window = LatencyWindow()
    assert math.isnan(window.percentile_ms(50.0))
    assert window.n_frames == 0


def test_percentiles_are_of_calls_in_milliseconds() -> None:
    window = LatencyWindow()
    for milliseconds in range(1, 102):
        window.add(milliseconds / 1e3, n_frames=4)
    assert window.percentile_ms(50.0) == pytest.approx(51.0)
    assert window.percentile_ms(99.0) == pytest.approx(100.0)
    assert window.n_frames == 404


def test_old_calls_are_forgotten_but_their_frames_counted() -> None:
    window = LatencyWindow(size=2)
    for seconds in (9.0, 1.0, 3.0):
        window.add(seconds, n_frames=1)
    assert window.percentile_ms(50.0) == pytest.approx(2000.0)
    assert window.n_frames == 3


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LatencyWindow(size=0)
