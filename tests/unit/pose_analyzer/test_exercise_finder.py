"""exercise_finder: what is told, and that nothing is detected twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pose_analyzer.errors import ExerciseError
from pose_analyzer.exercise_finder import (
    ExerciseFinder,
    RememberingDetector,
    require_exercise,
    told,
)
from pose_analyzer.exercise_recognizer import Recognition
from pose_analyzer.pose_detector import DetectorStats
from pose_analyzer.synthetic import MotionSpec, detections_from_truth, synthesize
from pose_analyzer.types import Frame, PoseDetections


class CountingDetector:
    """Sees nobody, and notes in which frames it looked."""

    name = "counting"

    def __init__(self) -> None:
        self.looked: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        self.looked += [frame.index for frame in frames]
        return [PoseDetections.empty() for _ in frames]

    def stats(self) -> DetectorStats:
        return DetectorStats(0, float("nan"), float("nan"), None)

    def close(self) -> None:
        self.looked.append(-1)

    def __enter__(self) -> CountingDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_noisy_set_is_found() -> None:
    truth = synthesize(motion=MotionSpec("push_up", reps=2))
    finder = ExerciseFinder()
    for time_s, found in zip(
        truth.time_s.tolist(), detections_from_truth(truth, noise_px=3.0), strict=True
    ):
        finder.update(found, time_s)
    assert finder.result().name == "push_up"


def test_what_counts_no_repetition_becomes_less_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = synthesize(motion=MotionSpec("biceps_curl", reps=2))
    finder = ExerciseFinder()
    for time_s, found in zip(
        truth.time_s.tolist(), detections_from_truth(truth, noise_px=2.0), strict=True
    ):
        finder.update(found, time_s)
    guess = Recognition((("squat", 0.6), ("biceps_curl", 0.3), ("none", 0.06), ("plank", 0.04)))
    monkeypatch.setattr(finder, "result", lambda: guess)
    ranked = dict(finder.confirmed().ranked)
    assert finder.confirmed().name == "biceps_curl"
    assert sum(ranked.values()) == pytest.approx(1.0)
    assert ranked["biceps_curl"] / ranked["none"] == pytest.approx(5.0)
    assert ranked["biceps_curl"] / ranked["squat"] == pytest.approx(5.0)


def test_nobody_stays_nobody() -> None:
    assert ExerciseFinder().confirmed() == Recognition(())


def test_no_frame_is_detected_twice() -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    frames = [Frame(image, 0.5 * index, index) for index in range(6)]
    inner = CountingDetector()
    with RememberingDetector(inner) as detector:
        detector.look(frames, watched_s=1.0)
        assert inner.looked == [0, 1, 2]
        assert len(detector.detect(frames[:4])) == 4
        assert len(detector.detect(frames[4:])) == 2
    assert inner.looked == [0, 1, 2, 3, 4, 5, -1]


def test_no_exercise_and_nobody_are_refused_with_a_way_out() -> None:
    with pytest.raises(ExerciseError, match=r"none 80 %.*name it with --exercise"):
        require_exercise(Recognition((("none", 0.8), ("squat", 0.2))))
    with pytest.raises(ExerciseError, match=r"squat 43 %.*name it with --exercise"):
        require_exercise(Recognition((("squat", 0.43), ("lunge", 0.3), ("none", 0.27))))
    with pytest.raises(ExerciseError, match="nobody was seen"):
        require_exercise(Recognition(()))


def test_a_doubt_is_told_with_the_guesses() -> None:
    assert told(Recognition((("push_up", 0.97), ("plank", 0.03)))) == (
        "recognised as push up (97 % sure)"
    )
    doubt = told(Recognition((("squat", 0.52), ("lunge", 0.4), ("none", 0.08))))
    assert doubt.startswith("not sure")
    assert "squat 52 %, lunge 40 %" in doubt
