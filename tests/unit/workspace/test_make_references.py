"""make_references: what the synthetic athlete did comes out of the pipeline as a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_references import NOISE_CORRELATION, NOISE_PX, detector_noise, main, synthetic_reference

from pose_analyzer.references import load_references
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, synthesize


def test_the_noise_has_the_size_and_the_persistence_it_states() -> None:
    truth = synthesize(Athlete(), MotionSpec("squat", reps=4), Camera())
    noise = detector_noise(truth, np.random.default_rng(0))
    assert noise.shape == truth.keypoints.shape
    assert noise.std() == pytest.approx(NOISE_PX, rel=0.05)
    assert (noise[1:] * noise[:-1]).mean() / noise.var() == pytest.approx(
        NOISE_CORRELATION, abs=0.03
    )


def test_the_same_clip_is_made_again_and_another_is_another() -> None:
    first, again, other = (synthetic_reference("squat", number) for number in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(first.motions[0].keypoints, again.motions[0].keypoints)
    assert first.motions[0].yaw_deg != other.motions[0].yaw_deg


def test_references_are_written_and_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    for n_clips in (2, 1):
        assert main(["squat", "--clips", str(n_clips), "--out", str(tmp_path)]) == 0
    names = {one.video_id for one in load_references(tmp_path, "squat", min_reps=2)}
    assert names == {"synthetic-squat-000"}
    assert [path.name for path in tmp_path.iterdir()] == ["squat"]
