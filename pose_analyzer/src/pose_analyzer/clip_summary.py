"""Adds up what was found in a clip, frame by frame, in memory that does not grow with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.exercises import CriterionSpec, ExerciseSpec, FaultSpec
from pose_analyzer.skeleton import KEYPOINT_INDEX, KEYPOINT_NAMES, N_KEYPOINTS, mirrored_name
from pose_analyzer.types import ClipSummary, Cue, FloatArray, FrameAnalysis, RepAnalysis
from pose_analyzer.video_source import VideoSource

SEEN_SHARE: Final = 0.8
"""An athlete who is seen in a smaller share of the frames is worth a warning (chosen by us)."""
POINT_SHARE: Final = 0.5
"""So is a counted body part that is seen in a smaller share (chosen by us)."""
_YAW_BINS_PER_DEG: Final = 2


class SummaryBuilder:
    """Takes the analyses of a clip one by one and gives its `ClipSummary`.

    Parameters
    ----------
    source : VideoSource
        Name, size and, after its end, warnings.
    exercise : ExerciseSpec
        What was analysed.
    detector : str
        Its name.
    notes : sequence of str
        What the warnings begin with.
    """

    def __init__(
        self,
        source: VideoSource,
        exercise: ExerciseSpec,
        detector: str,
        notes: Sequence[str] = (),
    ) -> None:
        self._notes = notes
        self._source = source
        self._exercise = exercise
        self._detector = detector
        self._n_frames = 0
        self._n_frames_seen = 0
        self._n_people_max = 0
        self._last_s = 0.0
        self._n_seen = np.zeros(N_KEYPOINTS, dtype=np.intp)
        self._confidence_sum = 0.0
        self._yaw_counts = np.zeros(90 * _YAW_BINS_PER_DEG + 1, dtype=np.intp)
        self._reps: list[RepAnalysis] = []
        self._cues: list[Cue] = []

    @property
    def n_frames(self) -> int:
        """Frames so far."""
        return self._n_frames

    def add(self, analysis: FrameAnalysis) -> None:
        """Count one more frame in."""
        self._n_frames += 1
        self._last_s = analysis.time_s
        self._reps.extend(analysis.finished)
        if analysis.cue is not None:
            self._cues.append(analysis.cue)
        pose = analysis.pose
        self._n_people_max = max(self._n_people_max, pose.n_people)
        if pose.athlete_idx is None:
            return
        confidence = pose.confidence[pose.athlete_idx]
        is_seen = (confidence > 0.0) & ~pose.predicted[pose.athlete_idx]
        if is_seen.any():
            self._n_frames_seen += 1
            self._n_seen += is_seen
            self._confidence_sum += float(confidence[is_seen].sum())
        yaw_deg = analysis.angles.yaw_deg
        if not math.isnan(yaw_deg):
            bin_index = round(min(90.0, max(0.0, yaw_deg)) * _YAW_BINS_PER_DEG)
            self._yaw_counts[bin_index] += 1

    def finish(self, last_reps: tuple[RepAnalysis, ...], n_left_right_swaps: int) -> ClipSummary:
        """Return the summary, with the repetitions that the end of the clip completed."""
        n_points = int(self._n_seen.sum())
        keypoint_seen = self._n_seen / max(1, self._n_frames)
        yaw_deg = self._median_yaw_deg()
        return ClipSummary(
            source=self._source.name,
            exercise=self._exercise.name,
            detector=self._detector,
            width=self._source.width,
            height=self._source.height,
            n_frames=self._n_frames,
            duration_s=self._duration_s(),
            n_frames_seen=self._n_frames_seen,
            n_people_max=self._n_people_max,
            keypoint_seen=keypoint_seen,
            mean_confidence=self._confidence_sum / n_points if n_points else math.nan,
            yaw_deg=yaw_deg,
            n_left_right_swaps=n_left_right_swaps,
            reps=(*self._reps, *last_reps),
            cues=tuple(self._cues),
            warnings=(
                *self._notes,
                *self._source.warnings,
                *self._warnings(keypoint_seen, yaw_deg),
            ),
        )

    def _duration_s(self) -> float:
        """Return the time of the last frame plus one mean frame."""
        if self._n_frames > 1:
            return self._last_s * self._n_frames / (self._n_frames - 1)
        return self._last_s + 1.0 / self._source.fps

    def _median_yaw_deg(self) -> float:
        """Return the median to half a degree; NaN if no yaw was known."""
        cumulative = np.cumsum(self._yaw_counts)
        if cumulative[-1] == 0:
            return math.nan
        return float(np.searchsorted(cumulative, cumulative[-1] / 2.0)) / _YAW_BINS_PER_DEG

    def _warnings(self, keypoint_seen: FloatArray, yaw_deg: float) -> list[str]:
        if self._n_frames_seen == 0:
            return [f"nobody was seen in the clip; film {self._exercise.best_view}"]
        warnings = []
        share = self._n_frames_seen / max(1, self._n_frames)
        if share < SEEN_SHARE:
            warnings.append(f"the athlete was seen in only {100 * share:.0f} % of the frames")
        hidden = _hidden_parts(self._exercise, keypoint_seen / share)
        if hidden:
            warnings.append(
                f"the {_listed(hidden)} could mostly not be seen; film {self._exercise.best_view}"
            )
        hold = self._exercise.hold
        if hold is not None and yaw_deg < hold.min_yaw_deg:
            title = self._exercise.title.lower()
            warnings.append(
                f"seen from {yaw_deg:.0f} degrees (0 is the front, 90 the side) a {title} cannot "
                f"be timed; film {self._exercise.best_view}"
            )
        unjudged = _unjudged(self._exercise, yaw_deg)
        if unjudged:
            names = [one.name.replace("_", " ") for one in unjudged]
            views = [
                f"{view} for {_listed(list(shown))}"
                for view, shown in self._exercise.views_of(unjudged).items()
            ]
            warnings.append(
                f"seen from {yaw_deg:.0f} degrees (0 is the front, 90 the side) "
                f"{_listed(names)} cannot be judged; film {_listed(views)}"
            )
        return warnings


def _hidden_parts(exercise: ExerciseSpec, seen: FloatArray) -> list[str]:
    """Return the counted body parts of which not even the better side was mostly seen."""
    parts: dict[str, float] = {}
    for name in (*exercise.signal.moving, *exercise.signal.resting):
        sides = (KEYPOINT_INDEX[name], KEYPOINT_INDEX[mirrored_name(name)])
        part = KEYPOINT_NAMES[sides[0]].removeprefix("left_").removeprefix("right_")
        parts[part.replace("_", " ")] = max(float(seen[side]) for side in sides)
    return [f"{part}s" for part, share in parts.items() if share < POINT_SHARE]


def _unjudged(exercise: ExerciseSpec, yaw_deg: float) -> list[CriterionSpec | FaultSpec]:
    """Return the criteria and the faults that cannot be judged from this side."""
    if math.isnan(yaw_deg):
        return []
    judged: list[CriterionSpec | FaultSpec] = [*exercise.criteria, *exercise.faults]
    shown = {one.name for one in judged if one.min_yaw_deg <= yaw_deg <= one.max_yaw_deg}
    return list({one.name: one for one in judged if one.name not in shown}.values())


def _listed(words: list[str]) -> str:
    """Return ``a, b and c``."""
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"
