"""What the validation on recorded people says of small samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from report_lib import Report
from validate_real_form import Labelled, score_labels, within_person

from pose_analyzer.types import RepMotion

NOTHING = np.empty(0)
MOTION = RepMotion(
    time_s=NOTHING,
    keypoints=NOTHING,
    confidence=NOTHING,
    deg=NOTHING,
    sigma_deg=NOTHING,
    signal=NOTHING,
    turn_idx=0,
    yaw_deg=math.nan,
    stature_px=math.nan,
)


def test_clips_are_ranked_by_their_mean_score_and_few_sources_give_no_interval(
    tmp_path: Path,
) -> None:
    reps = [
        Labelled(clip, clip, clip.startswith("wrong"), MOTION, score)
        for clip, score in (
            ("right 1", 90.0),
            ("right 1", math.nan),
            ("wrong 1", 80.0),
            ("wrong 2", 99.0),
            ("wrong 2", 83.0),
            ("unseen", math.nan),
        )
    ]
    report = Report("x", "y", folder=tmp_path)
    score_labels(report, "yolo", reps)
    (bar,) = report.bars
    assert bar.measured == pytest.approx(0.5)
    assert bar.n == 3
    assert "clips without a score: 1; no interval: 3 sources are too few" in bar.note


def test_each_person_with_both_labels_is_ranked_alone(tmp_path: Path) -> None:
    report = Report("x", "y", folder=tmp_path)
    is_wrong = np.array([False, True, False, True, True])
    sources = np.array(["both", "both", "both", "wrong", "wrong"])
    within_person(report, "yolo", is_wrong, np.array([1.0, 2.0, 3.0, 9.0, 9.0]), sources)
    (bar,) = report.bars
    assert (bar.name, bar.measured, bar.n) == ("push_up_within_person_auc_both_yolo", 0.5, 3)
