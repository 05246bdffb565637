"""A clip as the sinks of an analysis get it, known to the last digit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pytest

from pose_analyzer.skeleton import (
    JOINT_INDEX,
    KEYPOINT_INDEX,
    KEYPOINT_NAMES,
    N_JOINTS,
    N_KEYPOINTS,
)
from pose_analyzer.types import (
    Anomaly,
    ClipSummary,
    Cue,
    Fault,
    FormScore,
    Frame,
    FrameAnalysis,
    JointAngles,
    Motion,
    Rep,
    RepAnalysis,
    RepMotion,
    ScorePart,
    TrackedPose,
)


@dataclass(frozen=True)
class PlayedClip:
    """A clip as a sink gets it: frames without pictures, their analyses, and the summary."""

    analyses: tuple[FrameAnalysis, ...]
    summary: ClipSummary

    def play(self, *sinks: Sink) -> None:
        """Give everything to the sinks."""
        for analysis in self.analyses:
            frame = Frame(_NO_PICTURE, analysis.time_s, analysis.index)
            for sink in sinks:
                sink.write(frame, analysis)
        for sink in sinks:
            sink.close(self.summary)


class Sink(Protocol):
    """What takes the frames of a clip."""

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:
        """Take a frame."""

    def close(self, summary: ClipSummary) -> None:
        """Take the summary."""


@pytest.fixture
def play_clip() -> Callable[..., PlayedClip]:
    """Return a function that makes a clip of squats, two seconds each, at 30 frames a second."""
    return _played_clip


def _played_clip(
    n_reps: int = 3,
    *,
    source: str = "squat.mp4",
    cue_text: str = "Sit deeper",
    unseen_s: float = 0.0,
) -> PlayedClip:
    """Make a clip whose first ``unseen_s`` seconds show nobody; the last repetition is partial."""
    analyses = []
    reps: list[RepAnalysis] = []
    cues: list[Cue] = []
    for index in range(n_reps * 60 + 1):
        time_s = index / 30.0
        finished: tuple[RepAnalysis, ...] = ()
        cue = None
        if index and index % 60 == 0:
            finished = (_rep(index // 60, is_partial=index // 60 == n_reps and n_reps > 1),)
            reps += finished
            if index == 60:
                cue = Cue(time_s, "shallow_depth", cue_text, 2)
                cues.append(cue)
        analyses.append(_analysis(index, time_s, time_s >= unseen_s, finished, cue))
    seen = sum(analysis.pose.athlete_idx is not None for analysis in analyses)
    summary = ClipSummary(
        source=source,
        exercise="squat",
        detector="replay",
        width=1280,
        height=720,
        n_frames=len(analyses),
        duration_s=len(analyses) / 30.0,
        n_frames_seen=seen,
        n_people_max=1,
        keypoint_seen=np.linspace(0.0, 1.0, N_KEYPOINTS),
        mean_confidence=0.91,
        yaw_deg=84.0,
        n_left_right_swaps=0,
        reps=tuple(reps),
        cues=tuple(cues),
        warnings=("the feet were seen in 40 % of the frames; <b>film</b> the whole body",),
    )
    return PlayedClip(tuple(analyses), summary)


_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


def _depth(time_s: float) -> float:
    """Return 0 at rest and 1 at the far end."""
    return 0.5 - 0.5 * math.cos(math.pi * time_s)


def _analysis(
    index: int, time_s: float, is_seen: bool, finished: tuple[RepAnalysis, ...], cue: Cue | None
) -> FrameAnalysis:
    depth = _depth(time_s)
    deg = np.full(N_JOINTS, 175.0 - 90.0 * depth) + np.arange(N_JOINTS)
    sigma = np.full(N_JOINTS, 4.0)
    deg[JOINT_INDEX["right_ankle"]] = sigma[JOINT_INDEX["right_ankle"]] = np.nan
    phase = ("rest", "away", "turn", "back")[index // 15 % 4]
    angles = JointAngles(deg, sigma, 84.0)
    motion = Motion(0.3 * depth, 0.0, phase, np.zeros(N_JOINTS))
    if not is_seen:
        unknown = np.full(N_JOINTS, np.nan)
        angles = JointAngles(unknown, unknown, np.nan)
        motion = Motion(np.nan, np.nan, "unknown", unknown)
    return FrameAnalysis(
        index=index,
        time_s=time_s,
        pose=_pose(depth, is_seen),
        angles=angles,
        motion=motion,
        rep_count=index // 60,
        finished=finished,
        score=float("nan") if index < 60 else 82.5,
        cue=cue,
    )


def _pose(depth: float, is_seen: bool) -> TrackedPose:
    """Return an upright figure of about 500 px whose hips sink; its right toe is never seen."""
    heights = {"nose": 0.93, "eye": 0.95, "ear": 0.94, "shoulder": 0.818, "elbow": 0.63}
    heights |= {"wrist": 0.485, "hip": 0.53, "knee": 0.285, "ankle": 0.039, "heel": 0.0}
    points = np.empty((1, N_KEYPOINTS, 2))
    for row, name in enumerate(KEYPOINT_NAMES):
        height = heights.get(name.removeprefix("left_").removeprefix("right_"), 0.0)
        sinking = 100.0 * depth if height > 0.3 else 0.0
        points[0, row] = (640.0 + row, 650.0 - 500.0 * height + sinking)
    points[0, KEYPOINT_INDEX["right_big_toe"]] = np.nan
    confidence = np.where(np.isnan(points[..., 0]), 0.0, 0.9)
    people = int(is_seen)
    predicted = np.zeros((people, N_KEYPOINTS), np.bool_)
    predicted[:, KEYPOINT_INDEX["nose"]] = True
    return TrackedPose(
        track_ids=np.full(people, 7, np.intp),
        keypoints=points[:people],
        confidence=confidence[:people],
        boxes=np.tile([600.0, 150.0, 700.0, 650.0], (people, 1)),
        predicted=predicted,
        velocity_px_s=np.zeros((people, N_KEYPOINTS, 2)),
        athlete_idx=0 if is_seen else None,
    )


def _rep(number: int, *, is_partial: bool) -> RepAnalysis:
    start_s = 2.0 * (number - 1)
    rep = Rep(
        number=0 if is_partial else number,
        start_s=start_s,
        turn_s=start_s + 1.0,
        end_s=start_s + 2.0,
        start_index=60 * (number - 1),
        turn_index=60 * number - 30,
        end_index=60 * number,
        range=0.3,
        is_partial=is_partial,
    )
    unseen = np.full(N_JOINTS, np.nan)
    low, high = unseen.copy(), unseen.copy()
    low[JOINT_INDEX["left_knee"]], high[JOINT_INDEX["left_knee"]] = 92.4, 175.0
    parts = (
        ScorePart("depth", 71.0, 0.6, 0.8, "deepest knee angle 92 deg, goal 88"),
        ScorePart("symmetry", float("nan"), 0.4, 0.0, "not judged: seen from the side"),
    )
    return RepAnalysis(
        rep=rep,
        motion=RepMotion(
            time_s=start_s + np.linspace(0.0, 2.0, 5),
            keypoints=np.full((5, N_KEYPOINTS, 2), 100.0),
            confidence=np.full((5, N_KEYPOINTS), 0.9),
            deg=np.full((5, N_JOINTS), 120.0),
            sigma_deg=np.full((5, N_JOINTS), 4.0),
            signal=np.array([0.0, 0.1, 0.2, 0.1, 0.0]),
            turn_idx=2,
            yaw_deg=84.0,
            stature_px=700.0,
        ),
        min_deg=low,
        max_deg=high,
        yaw_deg=84.0,
        seen=0.95,
        score=FormScore(71.0 if not is_partial else float("nan"), 0.8, parts),
        faults=(Fault("shallow_depth", 0.3, 0.8, "92 deg, limit 88 deg"),),
        anomaly=Anomaly(False, float("nan"), float("nan"), (), "fewer than 5 repetitions"),
    )
