"""Draws what was found onto the picture that it was found in.

The athlete's left side is orange and the right side blue, as seen from the athlete; what was
predicted through a gap, or seen with little confidence, is hollow and thin. Other people are grey.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.report.hud import SOFT, WHITE, Hud, design_unit
from pose_analyzer.report.sprites import Color, Text
from pose_analyzer.skeleton import EDGES, JOINT_INDEX, KEYPOINT_INDEX, KEYPOINT_NAMES
from pose_analyzer.types import BoolArray, FloatArray, FrameAnalysis, ImageArray

LEFT: Final[Color] = (50, 150, 255)
RIGHT: Final[Color] = (255, 170, 60)
MIDDLE: Final[Color] = (235, 235, 235)
OTHERS: Final[Color] = (150, 150, 150)

LOW_CONFIDENCE: Final = 0.3
"""Below this a point is drawn hollow (chosen by us: half of what a detector calls visible)."""
UNSURE_SIGMA_DEG: Final = 12.0
"""An angle less certain than this is marked with a tilde (chosen by us: a step in the score)."""

_DEFAULT_JOINTS: Final = ("knee", "hip", "elbow")
_FIRST_BODY_POINT: Final = KEYPOINT_INDEX["left_shoulder"]
_SHIFT: Final = 3
_SUBPIXELS: Final = 1 << _SHIFT
_FAR_PX: Final = 30_000.0
"""A point farther out than this overflows the drawing's fixed-point numbers."""


def _side_color(names: tuple[str, ...]) -> Color:
    if all(name.startswith("left_") for name in names):
        return LEFT
    return RIGHT if all(name.startswith("right_") for name in names) else MIDDLE


_POINT_COLORS: Final = tuple(_side_color((name,)) for name in KEYPOINT_NAMES)
_EDGE_LIST: Final = tuple(
    (int(a), int(b), _side_color((KEYPOINT_NAMES[a], KEYPOINT_NAMES[b]))) for a, b in EDGES
)


class Annotator:
    """Draws the analyses of one clip, one picture after the other.

    Parameters
    ----------
    spec : ExerciseSpec
        Its title is shown and the angles of its goals are written at their joints (knee, hip and
        elbow if it has no goals).

    Examples
    --------
    >>> from pose_analyzer.exercise_file import load_exercise
    >>> annotator = Annotator(load_exercise("squat"))
    """

    def __init__(self, spec: ExerciseSpec) -> None:
        self._hud = Hud(spec)
        joints = tuple(dict.fromkeys(goal.joint for goal in spec.goals)) or _DEFAULT_JOINTS
        self._labels = tuple(_label_sides(joint) for joint in joints)

    def draw(self, image: ImageArray, analysis: FrameAnalysis) -> None:
        """Draw skeletons, angles, panel and cue onto a BGR picture, in place.

        Parameters
        ----------
        image : uint8 array, shape (H, W, 3)
            The picture that was analysed. Modified.
        analysis : FrameAnalysis
            Of this picture. Points that are NaN are not drawn.
        """
        pixel = design_unit(image.shape[1], image.shape[0])
        pose = analysis.pose
        for person in range(pose.n_people):
            if person != pose.athlete_idx:
                _draw_other(image, pose.keypoints[person], pixel)
        if pose.athlete_idx is not None:
            keypoints = pose.keypoints[pose.athlete_idx]
            is_sure = (pose.confidence[pose.athlete_idx] >= LOW_CONFIDENCE) & ~pose.predicted[
                pose.athlete_idx
            ]
            _draw_athlete(image, keypoints, is_sure, pixel)
            self._draw_angles(image, analysis, keypoints, pixel)
        self._hud.draw(image, analysis)

    def _draw_angles(
        self, image: ImageArray, analysis: FrameAnalysis, keypoints: FloatArray, pixel: float
    ) -> None:
        """Write each angle beside its joint, on the side away from the body's middle."""
        middle_x = _mean_x(keypoints)
        deg, sigma = analysis.angles.deg, analysis.angles.sigma_deg
        for sides in self._labels:
            known = []
            for joint, points in sides:
                anchor = keypoints[list(points)].mean(axis=0)
                if _is_drawable(anchor) and not math.isnan(deg[joint]):
                    sigma_deg = float(sigma[joint])
                    doubt = math.inf if math.isnan(sigma_deg) else sigma_deg
                    known.append((doubt, joint, anchor))
            known.sort(key=lambda item: item[0])
            if len(known) == 2 and np.hypot(*(known[0][2] - known[1][2])) < 90.0 * pixel:
                # From the side both knees lie over each other: the surer one is enough.
                known.pop()
            for doubt, joint, anchor in known:
                text = f"{'~' if doubt > UNSURE_SIGMA_DEG else ''}{deg[joint]:.0f}°"
                _write_label(image, text, anchor, anchor[0] < middle_x, pixel)


def _label_sides(joint: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Return (angle index, keypoints whose mean is the anchor) for each side of a joint."""
    if joint == "trunk_lean":
        trunk = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
        return ((JOINT_INDEX[joint], tuple(KEYPOINT_INDEX[name] for name in trunk)),)
    parts = ("knee", "ankle") if joint == "shin_lean" else (joint,)
    return tuple(
        (JOINT_INDEX[f"{side}_{joint}"], tuple(KEYPOINT_INDEX[f"{side}_{part}"] for part in parts))
        for side in ("left", "right")
    )


def _draw_athlete(
    image: ImageArray, keypoints: FloatArray, is_sure: BoolArray, pixel: float
) -> None:
    points, drawable = _fixed_point(keypoints)
    thick, thin = max(2, round(7 * pixel)), max(1, round(2.5 * pixel))
    radii = [
        round(max(2.0, (9.0 if index >= _FIRST_BODY_POINT else 4.5) * pixel) * _SUBPIXELS)
        for index in range(len(points))
    ]
    for a, b, color in _EDGE_LIST:
        if drawable[a] and drawable[b]:
            is_body = a >= _FIRST_BODY_POINT and is_sure[a] and is_sure[b]
            # A limb ends at the rim of a hollow point, so that it stays hollow.
            start = points[a] if is_sure[a] else _toward(points[a], points[b], radii[a])
            end = points[b] if is_sure[b] else _toward(points[b], points[a], radii[b])
            weight = thick if is_body else thin
            cv2.line(image, start, end, color, weight, cv2.LINE_AA, _SHIFT)
    for index, point in enumerate(points):
        if not drawable[index]:
            continue
        radius, color = radii[index], _POINT_COLORS[index]
        if is_sure[index]:
            cv2.circle(image, point, radius, WHITE, -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(image, point, round(radius * 0.68), color, -1, cv2.LINE_AA, _SHIFT)
        else:
            cv2.circle(image, point, radius, color, thin, cv2.LINE_AA, _SHIFT)


def _toward(start: tuple[int, int], end: tuple[int, int], step: int) -> tuple[int, int]:
    """Return the point ``step`` units from ``start`` on the way to ``end``."""
    x, y = end[0] - start[0], end[1] - start[1]
    share = min(1.0, step / max(1.0, math.hypot(x, y)))
    return start[0] + round(share * x), start[1] + round(share * y)


def _draw_other(image: ImageArray, keypoints: FloatArray, pixel: float) -> None:
    points, drawable = _fixed_point(keypoints)
    weight = max(1, round(2 * pixel))
    for a, b, _ in _EDGE_LIST:
        if drawable[a] and drawable[b]:
            cv2.line(image, points[a], points[b], OTHERS, weight, cv2.LINE_AA, _SHIFT)


def _write_label(
    image: ImageArray, text: str, anchor: FloatArray, to_left: bool, pixel: float
) -> None:
    """Write an outlined label beside a point, kept inside the picture."""
    color = SOFT if text.startswith("~") else WHITE
    rim = max(1, round(2 * pixel))
    label = Text(text, 0.95 * pixel, max(1, round(1.8 * pixel)), color, outline=rim)
    offset = round(22 * pixel)
    x = round(anchor[0]) - offset - label.width if to_left else round(anchor[0]) + offset
    x = min(max(x, rim), max(rim, image.shape[1] - label.width - rim))
    y = round(anchor[1]) + label.height // 2
    label.draw(image, x, min(max(y, label.height + rim), image.shape[0] - 2 * rim))


def _fixed_point(keypoints: FloatArray) -> tuple[list[tuple[int, int]], list[bool]]:
    """Return the points in the drawing's fixed-point units, and which of them can be drawn."""
    drawable = np.all(np.abs(keypoints) < _FAR_PX, axis=1)
    scaled = np.rint(np.where(drawable[:, None], keypoints, 0.0) * _SUBPIXELS).astype(int)
    return [(x, y) for x, y in scaled.tolist()], drawable.tolist()


def _is_drawable(point: FloatArray) -> bool:
    return bool(np.all(np.abs(point) < _FAR_PX))


def _mean_x(keypoints: FloatArray) -> float:
    """Return the middle of the body across the picture; NaN if nothing was seen."""
    # nan-aware: the middle of what was seen is enough to choose a side for a label.
    seen = keypoints[~np.isnan(keypoints[:, 0]), 0]
    return float(seen.mean()) if seen.size else math.nan
