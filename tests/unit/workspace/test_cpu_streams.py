"""The cameras and the counting of the comparison on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_streams import DRIVER_BUFFER, Camera, Case, Tally

PICTURES = [np.zeros((2, 2, 3), np.uint8)]


def test_a_camera_goes_on_while_nobody_reads_and_keeps_the_last_few() -> None:
    camera = Camera(PICTURES, fps=0.01, phase_s=-1005.0)  # Ten pictures were taken, and half one.
    first = camera.read()
    second = camera.read()
    assert first is not None
    assert second is not None
    assert (first.index, second.index, camera.n_lost) == (
        11 - DRIVER_BUFFER,
        12 - DRIVER_BUFFER,
        11 - DRIVER_BUFFER,
    )
    assert second.time_s - first.time_s == pytest.approx(100.0)


def test_a_stopped_camera_ends() -> None:
    camera = Camera(PICTURES, fps=0.01, phase_s=50.0)
    camera.close()
    assert list(camera) == []


def test_pictures_of_the_warm_up_do_not_count() -> None:
    tally = Tally.of(2)
    for index, latency_s in enumerate((9.0, 9.0, 0.1, 0.1)):
        tally.add(0, index, latency_s)
    tally.add(1, 3, 0.1)
    assert tally.percentile_ms(95.0, [2, 2]) == pytest.approx(100.0)


def test_the_variation_of_drops_is_relative() -> None:
    case = Case(2, "ours", 1.0, 1.0, 1.0, 1.0, np.array([0.4, 0.6]), 0.0)
    assert case.variation == pytest.approx(0.2)


def test_of_several_rounds_the_median_counts_and_of_memory_the_worst() -> None:
    rounds = [
        Case(2, "ours", 1.0, p95_ms, 1.0, 5.0, np.array([0.4, drop]), 10.0 * p95_ms)
        for p95_ms, drop in ((100.0, 0.4), (900.0, 0.6), (120.0, 0.8))
    ]
    typical = Case.typical(rounds)
    assert typical.p95_ms == pytest.approx(120.0)
    assert typical.drop_share == pytest.approx([0.4, 0.6])
    assert typical.growth_bytes == pytest.approx(9000.0)
