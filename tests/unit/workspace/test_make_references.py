"""make_references: what the synthetic athlete did comes out of the pipeline as a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_references import main, synthetic_reference

from pose_analyzer.references import load_references


def test_the_same_clip_is_made_again_and_another_is_another() -> None:
    first, again, other = (synthetic_reference("squat", number) for number in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(first.motions[0].keypoints, again.motions[0].keypoints)
    assert first.motions[0].yaw_deg != other.motions[0].yaw_deg


def test_references_are_written_and_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    for n_clips in (2, 1):
        arguments = ["squat", "--clips", str(n_clips), "--calibration-clips", "0"]
        assert main([*arguments, "--out", str(tmp_path)]) == 0
    names = {one.video_id for one in load_references(tmp_path, "squat", min_reps=2)}
    assert names == {"synthetic-squat-000"}
    assert [path.name for path in tmp_path.iterdir()] == ["squat"]
