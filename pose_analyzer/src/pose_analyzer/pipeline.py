"""The analysers in order, for one stream. The only module that knows the order.

Detections of one frame in, one `FrameAnalysis` out. No clock and no I/O: the same detections give
the same analyses, live or offline, one by one or at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.biomechanics import (
    JointAngleCalculator,
    angle_sigma,
    camera_yaw,
    camera_yaw_3d,
    stature,
)
from pose_analyzer.coaching import Coach
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.form_measures import unbroken_time_s
from pose_analyzer.form_scorer import FormScorer
from pose_analyzer.hold_posture import HoldPosture
from pose_analyzer.hold_timer import HoldTimer
from pose_analyzer.kalman_smoother import KalmanConfig, KalmanSmoother
from pose_analyzer.pose_tracker import PoseTracker, TrackerConfig
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.rep_angles import rep_angles
from pose_analyzer.rep_counter import RepCounter
from pose_analyzer.set_comparison import SetComparison
from pose_analyzer.skeleton import KEYPOINT_INDEX, N_JOINTS, N_KEYPOINTS
from pose_analyzer.temporal_analyzer import TemporalAnalyzer
from pose_analyzer.types import (
    Anomaly,
    Cue,
    FloatArray,
    FormScore,
    FrameAnalysis,
    IntArray,
    JointAngles,
    Motion,
    PoseDetections,
    Rep,
    RepAnalysis,
    RepMotion,
    Stance,
    TrackedPose,
)

_MARGIN_FRAMES: Final = 8
"""Frames before a repetition that the two-way smoother also sees, so that its edge is settled."""
_YAW_CONSTANT_S: Final = 0.5
_MIN_SEEN: Final = 0.4
"""Least share of the exercise's keypoints seen in a repetition that is scored: one of two sides
for most of its time (chosen by us, see reports/real_clips.md)."""
_TEMPO_MEMORY_REPS: Final = 4
"""How many earlier repetitions are looked at to tell whether the tempo of a set is even."""
_HOLD_CUE_S: Final = 5.0
"""A hold is looked at so often while it lasts, and as much of its end (chosen by us: a cue that
comes when it is over helps nobody)."""
_UNSCORED: Final = FormScore(math.nan, 0.0, ())
_HOLDING: Final = Anomaly(False, math.nan, math.nan, (), "the hold is not over")


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """Settings of the analysers that are not the exercise's.

    Attributes
    ----------
    tracker : TrackerConfig
        Identities and the detector gate.
    smoother : KalmanConfig
        Noise and gaps.
    """

    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    smoother: KalmanConfig = field(default_factory=KalmanConfig)


class _Seen(NamedTuple):
    """What is kept of a frame until its repetition is over."""

    frame: int
    time_s: float
    keypoints: FloatArray
    confidence: FloatArray
    signal: float
    yaw_deg: float
    athlete_id: int


def _unseen(index: int, time_s: float, athlete_id: int) -> _Seen:
    """Return a frame in which the athlete is not there."""
    return _Seen(
        frame=index,
        time_s=time_s,
        keypoints=np.full((N_KEYPOINTS, 2), np.nan),
        confidence=np.zeros(N_KEYPOINTS),
        signal=math.nan,
        yaw_deg=math.nan,
        athlete_id=athlete_id,
    )


class StreamPipeline:
    """Track, smooth, measure, count, judge and coach one stream.

    Parameters
    ----------
    exercise : ExerciseSpec
        What is being done.
    config : PipelineConfig, optional
        Settings of tracker and smoother.
    scorer : FormScorer, optional
        Another scorer than the exercise's own, say one fitted to references.
    references : ReferenceJudge, optional
        What repetitions are compared with; where it abstains or is not given, those before in the
        same set.

    Examples
    --------
    >>> from pose_analyzer.exercise_file import load_exercise
    >>> pipeline = StreamPipeline(load_exercise("squat"))
    >>> pipeline.update(PoseDetections.empty(), 0, 0.0).rep_count
    0
    """

    def __init__(
        self,
        exercise: ExerciseSpec,
        config: PipelineConfig | None = None,
        scorer: FormScorer | None = None,
        references: ReferenceJudge | None = None,
    ) -> None:
        config = config or PipelineConfig()
        self.exercise = exercise
        self._tracker = PoseTracker(config.tracker)
        self._smoother = KalmanSmoother(config.smoother)
        self._rep_smoother = KalmanSmoother(config.smoother)
        self._calculator = JointAngleCalculator()
        self._temporal = TemporalAnalyzer(exercise.signal)
        self._posture = HoldPosture(exercise.hold) if exercise.hold else None
        self._timer = _timer(exercise)
        self._counter: RepCounter | HoldTimer = self._timer or RepCounter(exercise.signal)
        self._scorer = scorer or FormScorer(exercise)
        self._references = references
        self._set = SetComparison()
        self._coach = Coach(exercise)
        self._judged = _judged_keypoints(exercise)
        self.reset()

    def reset(self) -> None:
        """Forget the stream, as a new object."""
        self._tracker.reset()
        self._smoother.reset()
        self._temporal.reset()
        self._counter.reset()
        if self._posture is not None:
            self._posture.reset()
        self._set.reset()
        self._coach.reset()
        self._history: deque[_Seen] = deque()
        self._durations_s: deque[float] = deque(maxlen=_TEMPO_MEMORY_REPS)
        self._athlete_id: int | None = None
        self._yaw_deg = math.nan
        self._time_s = math.nan
        self._score = math.nan
        self._looked_s = -math.inf

    @property
    def n_left_right_swaps(self) -> int:
        """Left/right exchanges of the detector that were repaired so far."""
        return self._tracker.n_swaps

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        """Return what is known after one more frame.

        Parameters
        ----------
        detections : PoseDetections
            Everybody the detector saw in this frame.
        index : int
            The frame, increasing.
        time_s : float
            Its time, increasing.

        Raises
        ------
        ValueError
            If the time does not increase.
        """
        tracked = self._tracker.update(detections, time_s)
        pose = self._smoother.update(tracked, time_s)
        row = pose.athlete_idx
        if row is None:
            return self._nobody(pose, index, time_s)
        if self._athlete_id != int(pose.track_ids[row]):
            self._athlete_id = int(pose.track_ids[row])
            self._temporal.interrupt()
        keypoints = pose.keypoints[row]
        deg = self._calculator.angles(keypoints)
        measured = _measured(pose, row)
        motion = self._temporal.update(measured, deg, float(stature(measured)), time_s)
        angles = self._angles(deg, pose, row, time_s)
        self._keep(
            _Seen(
                index,
                time_s,
                tracked.keypoints[row],
                tracked.confidence[row],
                motion.signal,
                angles.yaw_deg,
                self._athlete_id,
            )
        )
        signal = motion.signal
        if self._posture is not None:
            size_px = self._temporal.stature_px
            signal = self._posture.update(measured, size_px, self._yaw_deg, time_s)
        finished = self._count(signal, index, time_s, motion.stance)
        motion = self._held(motion)
        cue = self._advance(finished, time_s)
        return FrameAnalysis(
            index, time_s, pose, angles, motion, self._counter.count, finished, self._score, cue
        )

    def finish(self) -> tuple[RepAnalysis, ...]:
        """Return the repetition that the end of the stream completes or cuts short, if any."""
        return tuple(self._judge(rep) for rep in self._counter.finish())

    @property
    def rep_count(self) -> int:
        """Full repetitions so far."""
        return self._counter.count

    def _nobody(self, pose: TrackedPose, index: int, time_s: float) -> FrameAnalysis:
        """Return the analysis of a frame without the athlete: nothing is measured."""
        unseen = np.full(N_JOINTS, np.nan)
        motion = self._temporal.unseen(time_s)
        angles = JointAngles(unseen, unseen, math.nan)
        if self._athlete_id is not None:
            # A repetition that hides must not look as if it had been seen.
            self._keep(_unseen(index, time_s, self._athlete_id))
        finished = self._count(math.nan, index, time_s, motion.stance)
        cue = self._advance(finished, time_s)
        return FrameAnalysis(
            index, time_s, pose, angles, motion, self._counter.count, finished, self._score, cue
        )

    def _count(
        self, signal: float, index: int, time_s: float, stance: Stance
    ) -> tuple[RepAnalysis, ...]:
        """Return what this frame finished, and forget the frames that nothing needs any more."""
        if isinstance(self._counter, RepCounter):
            reps = self._counter.update(signal, time_s, index, stance)
        else:
            reps = self._counter.update(signal, time_s, index)
        finished = tuple(self._judge(rep) for rep in reps)
        oldest_s = time_s - self.exercise.signal.max_duration_s - 1.0
        while self._history and self._history[0].time_s < oldest_s:
            self._history.popleft()
        return finished

    def _held(self, motion: Motion) -> Motion:
        """Return the motion with the phase of a hold, which is kept or is not."""
        if self._timer is None or motion.phase == "unknown":
            return motion
        return dataclasses.replace(motion, phase="turn" if self._timer.is_holding else "rest")

    def _advance(self, finished: tuple[RepAnalysis, ...], time_s: float) -> Cue | None:
        for one in finished:
            if not one.rep.is_partial:
                self._score = one.score.total
        return self._coach.update(time_s, finished or self._looked_at(time_s))

    def _looked_at(self, time_s: float) -> tuple[RepAnalysis, ...]:
        """Return the last seconds of the hold in progress now and then, for the coach."""
        rep = None if self._timer is None else self._timer.so_far()
        if rep is None:
            self._looked_s = time_s
            return ()
        if time_s - self._looked_s < _HOLD_CUE_S:
            return ()
        self._looked_s = time_s
        recent = [one.frame for one in self._history if one.time_s >= rep.end_s - _HOLD_CUE_S]
        start = max(rep.start_index, recent[0])
        turn = (start + rep.end_index) // 2
        part = dataclasses.replace(rep, start_index=start, turn_index=turn, is_partial=False)
        return (self._analysis(part, self._motion_of(part), _HOLDING),)

    def _angles(self, deg: FloatArray, pose: TrackedPose, row: int, time_s: float) -> JointAngles:
        keypoints = pose.keypoints[row]
        stature_px = np.asarray(self._temporal.stature_px)
        yaw_deg = math.nan
        if pose.world_m is not None:
            yaw_deg = float(camera_yaw_3d(pose.world_m[row]))
        if math.isnan(yaw_deg):
            yaw_deg = float(camera_yaw(keypoints, stature_px))
        self._follow_yaw(yaw_deg, time_s)
        aside_deg = np.asarray(self.exercise.off_plane_yaw(self._yaw_deg))
        sigma = angle_sigma(keypoints, pose.confidence[row], aside_deg, stature_px)
        sigma[np.isnan(deg)] = np.nan
        return JointAngles(deg, sigma, self._yaw_deg)

    def _follow_yaw(self, yaw_deg: float, time_s: float) -> None:
        """Follow the yaw slowly: a camera does not turn within a repetition, estimates do."""
        if math.isnan(self._yaw_deg):
            self._yaw_deg = yaw_deg
        elif not math.isnan(yaw_deg):
            share = -math.expm1(-(time_s - self._time_s) / _YAW_CONSTANT_S)
            self._yaw_deg += (yaw_deg - self._yaw_deg) * share
        self._time_s = time_s

    def _keep(self, seen: _Seen) -> None:
        self._history.append(seen)

    def _judge(self, rep: Rep) -> RepAnalysis:
        """Smooth a finished repetition in both directions and judge it."""
        motion = self._motion_of(rep)
        if not rep.is_partial:
            motion = dataclasses.replace(motion, earlier_s=tuple(self._durations_s))
            duration_s = unbroken_time_s(motion)
            if not math.isnan(duration_s):
                self._durations_s.append(duration_s)
        return self._analysis(rep, motion, None)

    def _analysis(self, rep: Rep, motion: RepMotion, anomaly: Anomaly | None) -> RepAnalysis:
        """Judge a movement; its likeness too, if it is not given."""
        with np.errstate(invalid="ignore"):
            min_deg = np.fmin.reduce(motion.deg, axis=0)
            max_deg = np.fmax.reduce(motion.deg, axis=0)
        seen = float((motion.confidence[:, self._judged] > 0.0).mean())
        is_seen = seen >= _MIN_SEEN
        return RepAnalysis(
            rep=rep,
            motion=motion,
            min_deg=min_deg,
            max_deg=max_deg,
            yaw_deg=motion.yaw_deg,
            seen=seen,
            score=self._scorer.score(motion, is_partial=rep.is_partial) if is_seen else _UNSCORED,
            faults=self._scorer.faults(motion) if is_seen and not rep.is_partial else (),
            anomaly=anomaly or self._anomaly(motion, is_judged=is_seen and not rep.is_partial),
        )

    def _anomaly(self, motion: RepMotion, *, is_judged: bool) -> Anomaly:
        """Return the judgement against the references, or against the set where there is none.

        A repetition cut short or hardly seen is no strange one: it is not compared.
        """
        if not is_judged:
            return Anomaly(False, math.nan, math.nan, (), "cut short or hardly seen")
        in_set = self._set.judge(motion.deg)
        if self._references is None:
            return in_set
        anomaly = self._references.judge(motion)
        return in_set if anomaly.abstained else anomaly

    def _motion_of(self, rep: Rep) -> RepMotion:
        kept = [
            one
            for one in self._history
            if rep.start_index - _MARGIN_FRAMES <= one.frame <= rep.end_index + _MARGIN_FRAMES
        ]
        index = np.array([one.frame for one in kept])
        time_s = np.array([one.time_s for one in kept])
        confidence = np.stack([one.confidence for one in kept])
        keypoints = np.stack([one.keypoints for one in kept])
        # A camera cut within the repetition gives the athlete a new id, and is not smoothed over.
        athlete_ids = np.array([one.athlete_id for one in kept])
        others = athlete_ids != athlete_ids[np.searchsorted(index, rep.turn_index)]
        keypoints[others], confidence[others] = np.nan, 0.0
        keypoints = self._rep_smoother.smooth(time_s, keypoints, confidence)
        inside = (index >= rep.start_index) & (index <= rep.end_index)
        keypoints, confidence, time_s = keypoints[inside], confidence[inside], time_s[inside]
        yaw_deg = np.array([one.yaw_deg for one in kept])[inside]
        known = yaw_deg[~np.isnan(yaw_deg)]
        median_yaw = float(np.median(known)) if known.size else math.nan
        stature_px = self._temporal.stature_px
        plane_yaw = self.exercise.off_plane_yaw(median_yaw)
        deg, sigma_deg = rep_angles(keypoints, confidence, plane_yaw, stature_px)
        signal = np.array([one.signal for one in kept])[inside]
        return RepMotion(
            time_s=time_s,
            keypoints=keypoints,
            confidence=confidence,
            deg=deg,
            sigma_deg=sigma_deg,
            signal=signal,
            turn_idx=int(np.searchsorted(index[inside], rep.turn_index)),
            yaw_deg=median_yaw,
            stature_px=stature_px,
        )


def _timer(exercise: ExerciseSpec) -> HoldTimer | None:
    """Return what times the exercise if it is a hold."""
    if exercise.hold is None:
        return None
    return HoldTimer(exercise.hold, exercise.signal.min_duration_s)


def _measured(pose: TrackedPose, row: int) -> FloatArray:
    """Return the keypoints that were measured: counting must not follow a prediction."""
    keypoints, bridged = pose.keypoints[row], pose.predicted[row]
    return np.where(bridged[:, None], np.nan, keypoints) if bridged.any() else keypoints


def _judged_keypoints(exercise: ExerciseSpec) -> IntArray:
    """Return the keypoints that the exercise's signal and goals need."""
    names = set(exercise.signal.moving + exercise.signal.resting)
    for goal in exercise.goals:
        names |= _JOINT_POINTS.get(goal.joint, frozenset())
    return np.array(sorted(KEYPOINT_INDEX[name] for name in names), dtype=np.intp)


def _sides(*parts: str) -> frozenset[str]:
    return frozenset(f"{side}_{part}" for part in parts for side in ("left", "right"))


_JOINT_POINTS: Final = {
    "shoulder": _sides("elbow", "shoulder", "hip"),
    "elbow": _sides("shoulder", "elbow", "wrist"),
    "hip": _sides("shoulder", "hip", "knee"),
    "knee": _sides("hip", "knee", "ankle"),
    "shin_lean": _sides("knee", "ankle"),
    "trunk_lean": _sides("shoulder", "hip"),
}
