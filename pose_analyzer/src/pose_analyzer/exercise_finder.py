"""Finds out which exercise a stream or a clip shows, before its pipeline is made."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from pose_analyzer.errors import ExerciseError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercise_recognizer import NONE, WATCHED_S, ExerciseRecognizer, Recognition
from pose_analyzer.kalman_smoother import KalmanSmoother
from pose_analyzer.lifetime import Closing
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import DetectorStats, PoseDetector
from pose_analyzer.pose_tracker import PoseTracker
from pose_analyzer.types import Frame, PoseDetections

_CANDIDATE: Final = 0.1
"""From this probability on, an exercise is counted on trial (chosen by us)."""
_UNCOUNTED: Final = 0.1
"""How often a clip of an exercise holds no repetition that its own counter counts: 1 of 20 to 2 of
20 real clips, see reports/real_clips.md."""


class ExerciseFinder:
    """Tracks and smooths one stream and recognises what its athlete does.

    Live, call `update` with each frame's detections and `result` now and then; once it is sure,
    make the pipeline of that exercise and give it the frames kept so far. At the end of a clip
    `confirmed` tells more.

    Examples
    --------
    >>> finder = ExerciseFinder()
    >>> finder.update(PoseDetections.empty(), 0.0)
    >>> finder.result().name
    'none'
    """

    def __init__(self) -> None:
        self._tracker = PoseTracker()
        self._smoother = KalmanSmoother()
        self._recognizer = ExerciseRecognizer()
        self._seen: deque[tuple[PoseDetections, float]] = deque()

    def update(self, detections: PoseDetections, time_s: float) -> None:
        """Take everybody the detector saw in one more frame."""
        self._seen.append((detections, time_s))
        while self._seen[0][1] < time_s - WATCHED_S:
            self._seen.popleft()
        pose = self._smoother.update(self._tracker.update(detections, time_s), time_s)
        row = pose.athlete_idx
        if row is not None:
            bridged = pose.predicted[row][:, None]
            self._recognizer.update(np.where(bridged, np.nan, pose.keypoints[row]), time_s)

    def result(self) -> Recognition:
        """Return what the frames so far look like."""
        return self._recognizer.result()

    def confirmed(self) -> Recognition:
        """Return the same, after each likely exercise was counted on trial.

        An exercise of which not one repetition can be counted becomes less likely, by Bayes' rule
        with the share of clips whose repetitions the counter misses. Takes about as long as the
        analysis of what was seen, once for each likely exercise.
        """
        found = self.result()
        weighed = [
            (name, share * (1.0 if self._is_plausible(name, share) else _UNCOUNTED))
            for name, share in found.ranked
        ]
        total = sum(share for _, share in weighed)
        ranked = sorted(((name, share / total) for name, share in weighed), key=lambda one: -one[1])
        return Recognition(tuple(ranked))

    def _is_plausible(self, name: str, share: float) -> bool:
        """Return whether it is no exercise, or one that is likely and counts a repetition."""
        if name == NONE:
            return True
        if share < _CANDIDATE:
            return False
        pipeline = StreamPipeline(load_exercise(name))
        for index, (detections, time_s) in enumerate(self._seen):
            pipeline.update(detections, index, time_s)
        pipeline.finish()
        return pipeline.rep_count > 0


class RememberingDetector(Closing):
    """A detector that has seen the beginning of a clip already and does not look again.

    Parameters
    ----------
    detector : PoseDetector
        Looks at all other frames. Closed with this one.
    """

    def __init__(self, detector: PoseDetector) -> None:
        self._detector = detector
        self._found: dict[int, PoseDetections] = {}
        self.name = detector.name

    def look(self, frames: Iterable[Frame], watched_s: float = WATCHED_S) -> Recognition:
        """Detect in the first seconds of a clip, remember what was found, and recognise it."""
        finder = ExerciseFinder()
        for frame in itertools.takewhile(lambda one: one.time_s <= watched_s, frames):
            found = self._detector.detect([frame])[0]
            self._found[frame.index] = found
            finder.update(found, frame.time_s)
        return finder.confirmed()

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return what was or is found in the frames; what was remembered is given up."""
        unseen = [frame for frame in frames if frame.index not in self._found]
        fresh = iter(self._detector.detect(unseen) if unseen else ())
        return [
            self._found.pop(frame.index) if frame.index in self._found else next(fresh)
            for frame in frames
        ]

    def stats(self) -> DetectorStats:
        """Return the times of the detector."""
        return self._detector.stats()

    def close(self) -> None:
        """Close the detector."""
        self._detector.close()


def require_exercise(recognition: Recognition) -> str:
    """Return the recognised exercise.

    Raises
    ------
    ExerciseError
        If nobody was seen, or what was seen is no exercise; the message says how to name one.
    """
    if recognition.name != NONE:
        return recognition.name
    seen = f"it looks like: {recognition.guesses}" if recognition.ranked else "nobody was seen"
    raise ExerciseError(
        f"no exercise was recognised in the first {WATCHED_S:.0f} s ({seen}); "
        "name it with --exercise, say --exercise squat"
    )


def told(recognition: Recognition) -> str:
    """Return the sentence that says what was recognised and how sure that is."""
    name = recognition.name.replace("_", " ")
    share = f"{100.0 * recognition.probability:.0f} % sure"
    if recognition.is_sure:
        return f"recognised as {name} ({share})"
    return (
        f"not sure which exercise this is: taken for {name} ({recognition.guesses}); "
        "name it with --exercise if that is wrong"
    )
