"""One tracked person, and the detections that may be one.

`PoseTracker` decides which detection is which person; this module holds what is known of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.pose_similarity import oks, oks_area
from pose_analyzer.skeleton import MIRROR, N_KEYPOINTS
from pose_analyzer.swap_repair import SwapConfig, SwapRepair
from pose_analyzer.types import BoolArray, FloatArray, PoseDetections

_VELOCITY_SHARE: Final = 0.5
"""Of the newest displacement in a track's velocity: prediction needs speed, not precision."""


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """When a detection is a person, and which.

    Defaults are chosen by us, see reports/smoothing, but for the two-stage association [1]_.

    Attributes
    ----------
    min_confidence : float
        Keypoints below are not measured: NaN with confidence 0. The one gate of the route.
    min_keypoints : int
        A person with fewer measured keypoints is not there.
    sure_confidence, unsure_confidence : float
        Boxes above the first are matched first and may begin a track; boxes between the two only
        continue one; boxes below are not used.
    min_similarity, min_unsure_similarity : float
        Least object keypoint similarity to be the same person, for sure and unsure boxes.
    min_overlap, sure_overlap : float
        Least overlap of boxes to be the same person: where fewer than ``min_common`` keypoints
        can be compared, and whatever the keypoints say.
    min_common : int
        See ``min_overlap``.
    duplicate_similarity : float
        Two detections more alike than this are one person.
    max_lost_s : float
        How long an unseen track can be found again.
    bridge_s : float
        How long an unseen track still has a row, without keypoints, for the smoother to predict.
    athlete_constant_s, takeover_ratio, takeover_s : float
        See `PoseTracker`.
    swap : SwapConfig
        When left and right count as exchanged.

    References
    ----------
    .. [1] Y. Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
       arXiv:2110.06864, section 3.
    """

    min_confidence: float = 0.3
    min_keypoints: int = 3
    sure_confidence: float = 0.4
    unsure_confidence: float = 0.1
    min_similarity: float = 0.3
    min_unsure_similarity: float = 0.5
    min_overlap: float = 0.3
    sure_overlap: float = 0.6
    min_common: int = 6
    duplicate_similarity: float = 0.85
    max_lost_s: float = 1.0
    bridge_s: float = 0.25
    athlete_constant_s: float = 2.0
    takeover_ratio: float = 1.5
    takeover_s: float = 1.0
    swap: SwapConfig = field(default_factory=SwapConfig)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            is_time = one.name.endswith("_s")
            if isinstance(value, float) and not (is_time or one.name == "takeover_ratio"):
                if not 0.0 <= value <= 1.0:
                    raise ValueError(f"{one.name} must be in [0, 1], got {value}")
            elif isinstance(value, float | int) and not 0.0 < value < math.inf:
                raise ValueError(f"{one.name} must be a positive number, got {value}")


class Found(NamedTuple):
    """The people of one frame that may be tracked, surest first.

    As `PoseDetections`, gated: what is not measured is NaN with confidence 0, the boxes are
    finite, nobody stands in it twice. ``areas`` are in px², ``sizes_px`` the box diagonals.
    """

    keypoints: FloatArray
    confidence: FloatArray
    boxes: FloatArray
    box_confidence: list[float]
    world_m: FloatArray | None
    areas: FloatArray
    sizes_px: list[float]


def gate(detections: PoseDetections, config: TrackerConfig) -> Found:
    """Return what of the detections is measured well enough, without duplicates."""
    keypoints, confidence = detections.keypoints, detections.confidence
    measured = confidence >= config.min_confidence
    measured &= np.isfinite(keypoints[..., 0] + keypoints[..., 1])
    if not measured.all():
        keypoints = np.where(measured[..., None], keypoints, np.nan)
        confidence = np.where(measured, confidence, 0.0)
    boxes = detections.boxes
    side = boxes[:, 2:] - boxes[:, :2]
    if not (side > 0.0).all() or not np.isfinite(side).all():
        boxes = _repaired_boxes(boxes, keypoints)
        side = boxes[:, 2:] - boxes[:, :2]
    sizes_px = [math.hypot(width, height) for width, height in side.tolist()]
    found = Found(
        keypoints,
        confidence,
        boxes,
        detections.box_confidence.tolist(),
        detections.world_m,
        oks_area(boxes),
        sizes_px,
    )
    return _chosen(found, np.count_nonzero(measured, axis=1).tolist(), config)


def _repaired_boxes(boxes: FloatArray, keypoints: FloatArray) -> FloatArray:
    """Return the boxes, and the extent of the keypoints where a box is not one."""
    side = boxes[:, 2:] - boxes[:, :2]
    valid = (np.isfinite(boxes) & np.isfinite(np.tile(side, 2)) & np.tile(side > 0.0, 2)).all(
        axis=1
    )
    # fmin and fmax pass over NaN; somebody without any keypoint is dropped later.
    extent = np.concatenate([np.fmin.reduce(keypoints, 1), np.fmax.reduce(keypoints, 1)], axis=1)
    return np.where(valid[:, None], boxes, np.nan_to_num(extent))


def _chosen(found: Found, n_measured: list[int], config: TrackerConfig) -> Found:
    """Return the people who are sure enough, surest first, each once."""
    sure = found.box_confidence
    rows = [
        row
        for row, count in enumerate(n_measured)
        if count >= config.min_keypoints and sure[row] >= config.unsure_confidence
    ]
    if len(rows) > 1:
        rows.sort(key=lambda row: -sure[row])
        rows = _without_duplicates(found, rows, config)
    if rows == list(range(len(sure))):
        return found
    return Found(
        found.keypoints[rows],
        found.confidence[rows],
        found.boxes[rows],
        [sure[row] for row in rows],
        None if found.world_m is None else found.world_m[rows],
        found.areas[rows],
        [found.sizes_px[row] for row in rows],
    )


def _without_duplicates(found: Found, rows: list[int], config: TrackerConfig) -> list[int]:
    """Return the rows, in order, without those too like one before them."""
    points = found.keypoints[rows]
    area = np.maximum.outer(found.areas[rows], found.areas[rows])
    similarity, n_common = oks(points[:, None], points[None], area)
    alike = (similarity > config.duplicate_similarity) & (n_common >= config.min_common)
    kept: list[int] = []
    for index in range(len(rows)):
        if not alike[index, kept].any():
            kept.append(index)
    return [rows[index] for index in kept]


class PersonTrack:
    """One person: where they were last, how they move, how much they matter.

    Attributes
    ----------
    id : int
        Never used again.
    keypoints, velocity : array, shape (K, 2)
        Last positions, held for a short while where a keypoint is not seen, and px/s.
    measured, confidence : array
        The keypoints of the last sighting as they are handed on, sides put back.
    box, area, size_px, world_m
        Of the last sighting.
    seen_s : float
        When that was.
    born_s : float
        When the person was first seen.
    n_seen : int
        Sightings.
    weight : float
        Body size in px times confidence, averaged over time.
    """

    __slots__ = (
        "_held_s",
        "area",
        "born_s",
        "box",
        "confidence",
        "id",
        "keypoints",
        "measured",
        "n_seen",
        "seen_s",
        "size_px",
        "swap",
        "velocity",
        "weight",
        "world_m",
    )

    _held_s: FloatArray
    area: float
    box: FloatArray
    confidence: FloatArray
    keypoints: FloatArray
    measured: FloatArray
    seen_s: float
    size_px: float
    velocity: FloatArray
    world_m: FloatArray | None

    def __init__(
        self, track_id: int, found: Found, row: int, time_s: float, swap: SwapConfig
    ) -> None:
        self.id = track_id
        self.swap = SwapRepair(swap)
        self.born_s = time_s
        self.n_seen = 0
        self.weight = 0.0
        self._begin(found, row, time_s)

    def expected(self, time_s: float, bridge_s: float) -> FloatArray:
        """Return the keypoints at `time_s` at constant velocity, carried on for a short while."""
        return self.keypoints + self.velocity * min(time_s - self.seen_s, bridge_s)

    def see(self, found: Found, row: int, time_s: float, bridge_s: float) -> None:
        """Take over a detection, with its sides put back."""
        elapsed_s = time_s - self.seen_s
        if elapsed_s > bridge_s:
            self._begin(found, row, time_s)
            return
        expected = self.expected(time_s, bridge_s)
        last = self.keypoints
        self._take(found, row, time_s)
        exchanged = self.swap.find(self.measured, expected, self.size_px, time_s)
        if exchanged is not None:
            self.measured = _mirrored(self.measured, exchanged)
            self.confidence = _mirrored(self.confidence, exchanged)
            self.world_m = None if self.world_m is None else _mirrored(self.world_m, exchanged)
        self._move(last, expected, time_s, elapsed_s, bridge_s)

    def _begin(self, found: Found, row: int, time_s: float) -> None:
        """Take over a detection without any expectation."""
        self._take(found, row, time_s)
        self.keypoints = self.measured
        self.velocity = np.zeros((N_KEYPOINTS, 2))
        self._held_s = np.full(N_KEYPOINTS, time_s)

    def _take(self, found: Found, row: int, time_s: float) -> None:
        self.measured = found.keypoints[row]
        self.confidence = found.confidence[row]
        self.world_m = None if found.world_m is None else found.world_m[row]
        self.box = found.boxes[row]
        self.area = float(found.areas[row])
        self.size_px = found.sizes_px[row]
        self.seen_s = time_s
        self.n_seen += 1

    def _move(
        self,
        last: FloatArray,
        expected: FloatArray,
        time_s: float,
        elapsed_s: float,
        bridge_s: float,
    ) -> None:
        """Update positions and velocities."""
        velocity = (self.measured - last) * (_VELOCITY_SHARE / elapsed_s)
        velocity += self.velocity * (1.0 - _VELOCITY_SHARE)
        self.keypoints = self.measured
        unknown = np.isnan(velocity[:, 0])
        if not unknown.any():
            self._held_s.fill(time_s)
            self.velocity = velocity
            return
        unseen = np.isnan(self.measured[:, 0])
        self._held_s[~unseen] = time_s
        held = unseen & (time_s - self._held_s <= bridge_s)
        self.keypoints = np.where(held[:, None], expected, self.measured)
        velocity[unknown] = 0.0
        velocity[held] = self.velocity[held]
        self.velocity = velocity


def _mirrored(values: FloatArray, exchanged: BoolArray) -> FloatArray:
    """Return the values with left and right exchanged where it says so."""
    result = values.copy()
    result[exchanged] = values[MIRROR][exchanged]
    return result
