"""The most streams that a machine holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pose_analyzer.stream_capacity import holds, most_streams
from pose_analyzer.stream_load import LoadResult


def result(latency_ms: Sequence[float], n_captured: int) -> LoadResult:
    return LoadResult(
        n_captured=n_captured,
        latency_ms=np.array(latency_ms, dtype=np.float64),
        stream_idx=np.arange(len(latency_ms)) % 2.0,
        dropped={},
        stage_ms={},
        batch_sizes=np.ones(1),
        seconds=1.0,
        cpu_s=0.5,
    )


@pytest.mark.parametrize("held", [0, 1, 2, 5, 8, 13])
def test_the_most_streams_are_found_exactly(held: int) -> None:
    def measure(n_streams: int) -> LoadResult:
        return result([10.0 if n_streams <= held else 90.0] * 10, 10)

    found, tried = most_streams(measure, budget_ms=50.0)
    assert found == held
    assert len(tried) <= 9


def test_no_more_streams_are_tried_than_asked_for() -> None:
    found, tried = most_streams(lambda _: result([1.0] * 10, 10), budget_ms=50.0, most=6)
    assert found == 6
    assert max(tried) == 6


def test_a_dropped_frame_in_a_hundred_does_not_hold() -> None:
    assert holds(result([1.0] * 100, 100), 50.0)
    assert not holds(result([1.0] * 99, 100), 50.0)
    assert not holds(result([99.0] * 100, 100), 50.0)
