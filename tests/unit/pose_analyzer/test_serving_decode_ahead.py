"""When the next batch is decoded while one is detected."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from pose_analyzer.serving.decode_ahead import DecodeAhead

SECONDS = st.floats(1e-4, 1.0)


def test_at_first_nobody_waits() -> None:
    ahead = DecodeAhead()
    assert ahead.begin_s(4) == -math.inf
    ahead.started(1, now_s=10.0)
    assert ahead.begin_s(4) == 10.0


@given(detect_s=SECONDS, decode_s=SECONDS, now_s=st.floats(0.0, 1e4))
def test_decoding_ends_when_the_detector_should_be_free(
    detect_s: float, decode_s: float, now_s: float
) -> None:
    ahead = DecodeAhead()
    ahead.ran(2, detect_s)
    ahead.decoded(3, decode_s)
    ahead.started(2, now_s)
    assert ahead.begin_s(3) + decode_s == pytest.approx(now_s + detect_s)


def test_of_many_that_wait_as_many_are_expected_as_came_last() -> None:
    ahead = DecodeAhead()
    ahead.ran(1, 0.5)
    ahead.decoded(4, 0.4)
    ahead.decoded(1, 0.1)
    ahead.started(1, 10.0)
    assert ahead.begin_s(4) == pytest.approx(10.4)
    ahead.decoded(4, 0.4)
    assert ahead.begin_s(4) == pytest.approx(10.1)


def test_without_jpeg_the_next_batch_waits_for_the_detector() -> None:
    ahead = DecodeAhead()
    ahead.ran(1, 0.5)
    ahead.decoded(1, 0.2)
    ahead.started(1, 10.0)
    assert ahead.begin_s(0) == 10.5
