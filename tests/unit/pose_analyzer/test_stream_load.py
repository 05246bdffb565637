"""How many streams a machine holds."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.stream_load import LoadResult, LoadSpec, run_load
from pose_analyzer.types import Frame, ImageArray, PoseDetections

PICTURE = np.zeros((36, 64, 3), dtype=np.uint8)


class Nobody:
    """A detector that sees nobody, at once."""

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        return [PoseDetections.empty() for _ in frames]


def picture(stream: int, index: int) -> ImageArray:
    del stream, index
    return PICTURE


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


def pipeline() -> StreamPipeline:
    return StreamPipeline(load_exercise("squat"))


def test_latencies_can_be_read_of_some_streams() -> None:
    both = result([1.0, 100.0] * 50, 100)
    assert both.percentile_ms(99.0, [0]) == 1.0
    assert both.counts(3).tolist() == [50.0, 50.0, 0.0]


def test_nothing_captured_is_not_nothing_dropped() -> None:
    assert np.isnan(result([], 0).drop_share)


def test_a_stream_may_send_jpeg() -> None:
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    spec = LoadSpec(2, fps=50.0, seconds=0.3, warm_up_s=0.05)
    found = run_load(
        Nobody(), spec, lambda stream, index: data if stream or index % 2 else b"none", pipeline
    )
    counts = found.counts(2)
    assert 0 < counts[0] < counts[1]
    assert found.dropped["bad_frame"] > 0
    assert found.stage_ms["decode"].size > 0


def test_every_captured_frame_is_accounted_for() -> None:
    spec = LoadSpec(2, fps=100.0, seconds=0.3, warm_up_s=0.05)
    found = run_load(Nobody(), spec, picture, pipeline)
    assert 30 <= found.n_captured <= 80
    assert len(found.latency_ms) + sum(found.dropped.values()) >= found.n_captured
    assert np.all(found.latency_ms > 0.0)
    assert found.batch_sizes.sum() >= len(found.latency_ms) - 2


def test_a_stream_that_ends_leaves_the_other() -> None:
    def capture(stream: int, index: int) -> ImageArray | None:
        return None if stream == 0 and index > 3 else PICTURE

    spec = LoadSpec(2, fps=100.0, seconds=0.2, warm_up_s=0.1)
    found = run_load(Nobody(), spec, capture, pipeline)
    assert found.counts(2)[0] == 0.0
    assert found.counts(2)[1] > 10


@pytest.mark.parametrize("wrong", [{"n_streams": 0}, {"n_streams": 1, "fps": 0.0}])
def test_a_load_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LoadSpec(**wrong)  # type: ignore[arg-type]
