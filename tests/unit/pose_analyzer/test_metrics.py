"""PoseMetrics: what Prometheus would scrape."""

from __future__ import annotations

import math
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pose_analyzer.errors import DependencyMissingError
from pose_analyzer.metrics import STAGE_BUCKETS_S, PoseMetrics
from pose_analyzer.serving.observer import DROP_CAUSES, STAGES, Observer


def samples(metrics: PoseMetrics) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
    }


def test_every_stage_and_cause_is_there_from_the_start_and_nothing_is_counted() -> None:
    seen = samples(PoseMetrics())
    assert [seen["pose_stage_seconds_count", stage] for stage in STAGES] == [0.0] * len(STAGES)
    assert [seen["pose_dropped_frames_total", cause] for cause in DROP_CAUSES] == [0.0] * len(
        DROP_CAUSES
    )
    assert math.isnan(seen["pose_vram_used_bytes",])


def test_what_is_told_is_counted() -> None:
    metrics = PoseMetrics()
    observer: Observer = metrics
    observer.stage("infer", 0.011)
    observer.dropped("vram", 3)
    observer.batch(6, 8)
    observer.streams(4)
    observer.vram(5, 8)
    seen = samples(metrics)
    assert seen["pose_stage_seconds_bucket", "0.008", "infer"] == 0.0
    assert seen["pose_stage_seconds_bucket", "0.012", "infer"] == 1.0
    assert seen["pose_dropped_frames_total", "vram"] == 3.0
    assert seen["pose_batch_frames_bucket", "8.0"] == 1.0
    assert seen["pose_batch_occupancy_ratio_sum",] == pytest.approx(0.75)
    assert seen["pose_open_streams",] == 4.0
    assert (seen["pose_vram_used_bytes",], seen["pose_vram_total_bytes",]) == (5.0, 8.0)


def test_memory_that_is_no_longer_measured_is_not_zero() -> None:
    metrics = PoseMetrics()
    metrics.vram(5, 8)
    metrics.vram(0, 0)
    assert math.isnan(samples(metrics)["pose_vram_total_bytes",])


def test_two_in_one_process_count_for_themselves() -> None:
    one, two = PoseMetrics(), PoseMetrics()
    one.dropped("stale")
    assert samples(two)["pose_dropped_frames_total", "stale"] == 0.0


def test_the_buckets_rise_and_show_the_latencies_that_are_promised() -> None:
    assert list(STAGE_BUCKETS_S) == sorted(set(STAGE_BUCKETS_S))
    assert {0.0005, 0.012, 0.025, 0.05, 2.0} <= set(STAGE_BUCKETS_S)


def test_a_missing_library_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(DependencyMissingError, match=r"pose-analyzer\[live\]"):
        PoseMetrics()
