"""What a pose detector would say of a synthetic athlete, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose_analyzer.skeleton import MIRROR, N_COCO, N_KEYPOINTS
from pose_analyzer.synthetic.measured_noise import MeasuredNoise
from pose_analyzer.synthetic.truth import Truth
from pose_analyzer.types import BoolArray, FloatArray, PoseDetections


@dataclass(frozen=True, slots=True)
class DetectorHabits:
    """What goes wrong in a detector besides noise.

    Attributes
    ----------
    outlier_rate : float
        Share of keypoints that jump away by 60 to 200 px, keeping their confidence.
    swap_rate : float
        Share of frames whose left and right sides are exchanged.
    gaps_s : tuple of (float, float)
        From when to when nobody is found at all.
    hidden_confidence : float
        Confidence, relative to a seen one, of a keypoint that the body hides.
    has_feet : bool
        False leaves heels and toes NaN, as a detector of the 17 COCO keypoints does.
    has_world : bool
        Whether metric landmarks come with the pixels.
    """

    outlier_rate: float = 0.0
    swap_rate: float = 0.0
    gaps_s: tuple[tuple[float, float], ...] = ()
    hidden_confidence: float = 1.0
    has_feet: bool = True
    has_world: bool = False

    def __post_init__(self) -> None:
        for name in ("outlier_rate", "swap_rate", "hidden_confidence"):
            value = float(getattr(self, name))
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {value}")


def detections_from_truth(
    truth: Truth | Sequence[Truth],
    noise_px: float = 0.0,
    confidence: float = 0.9,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    habits: DetectorHabits | None = None,
) -> list[PoseDetections]:
    """Return what a detector would find in every frame.

    Parameters
    ----------
    truth : Truth or sequence of Truth
        One or several people in the same camera. The list is as long as the first one's frames;
        people whose motion ends earlier leave.
    noise_px : float
        Standard deviation of each coordinate.
    confidence : float
        Of a seen keypoint, in [0, 1].
    dropout : float
        Share of keypoints that are not found at all: NaN with confidence 0.
    rng : numpy.random.Generator, optional
        Source of all chance; one seeded with 0 if left out.
    habits : DetectorHabits, optional
        Outliers, exchanged sides, gaps. None of these if left out.

    Returns
    -------
    list of PoseDetections
        One for each frame. Keypoints outside the picture are NaN with confidence 0; a person with
        fewer than three keypoints left is not found.
    """
    if noise_px < 0.0:
        raise ValueError(f"noise_px must not be negative, got {noise_px}")
    for name, share in (("confidence", confidence), ("dropout", dropout)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} must be in [0, 1], got {share}")
    people = [truth] if isinstance(truth, Truth) else list(truth)
    if not people:
        raise ValueError("truth must hold at least one person")
    rng = np.random.default_rng(0) if rng is None else rng
    habits = DetectorHabits() if habits is None else habits
    found = [
        _Found.of(person, _Noise(noise_px, confidence, dropout, habits), rng) for person in people
    ]
    return [_frame(found, index, habits) for index in range(people[0].n_frames)]


def measured_detections(
    truth: Truth | Sequence[Truth],
    noise: MeasuredNoise,
    rng: np.random.Generator | None = None,
    habits: DetectorHabits | None = None,
) -> list[PoseDetections]:
    """Return what a real detector, by its measured noise, would find in every frame.

    Parameters
    ----------
    truth : Truth or sequence of Truth
        As in `detections_from_truth`.
    noise : MeasuredNoise
        Of the detector: errors, confidence and the frames in which it finds nobody.
    rng : numpy.random.Generator, optional
        Source of all chance; one seeded with 0 if left out.
    habits : DetectorHabits, optional
        What goes wrong besides. Confidence is that of the measured noise, also of what is hidden.

    Returns
    -------
    list of PoseDetections
        As from `detections_from_truth`.

    Examples
    --------
    >>> from pose_analyzer.synthetic import synthesize
    >>> truth = synthesize()
    >>> len(measured_detections(truth, MeasuredNoise.load("mediapipe"))) == truth.n_frames
    True
    """
    people = [truth] if isinstance(truth, Truth) else list(truth)
    if not people:
        raise ValueError("truth must hold at least one person")
    rng = np.random.default_rng(0) if rng is None else rng
    habits = DetectorHabits() if habits is None else habits
    found = [_Found.measured(person, noise, habits, rng) for person in people]
    return [_frame(found, index, habits) for index in range(people[0].n_frames)]


@dataclass(frozen=True, slots=True)
class _Noise:
    noise_px: float
    confidence: float
    dropout: float
    habits: DetectorHabits


@dataclass(frozen=True, slots=True)
class _Found:
    """One person as detected over a whole clip."""

    keypoints: FloatArray
    confidence: FloatArray
    boxes: FloatArray
    world_m: FloatArray

    @classmethod
    def of(cls, truth: Truth, noise: _Noise, rng: np.random.Generator) -> _Found:
        """Return the noisy keypoints of one person."""
        habits, shape = noise.habits, truth.keypoints.shape[:2]
        # All chance is drawn whether it is used or not: an option then does not move the others'.
        shift = rng.standard_normal((*shape, 2)) * noise.noise_px
        is_lost = rng.random(shape) < noise.dropout
        share = np.where(truth.visible, 1.0, habits.hidden_confidence)
        return cls._with_habits(
            truth,
            (truth.keypoints + shift, noise.confidence * share, camera_landmarks(truth)),
            is_lost,
            habits,
            rng,
        )

    @classmethod
    def measured(
        cls, truth: Truth, noise: MeasuredNoise, habits: DetectorHabits, rng: np.random.Generator
    ) -> _Found:
        """Return the keypoints of one person with the measured noise of a detector."""
        draw = noise.draw(truth, rng)
        is_lost = np.broadcast_to(draw.missed[:, None], draw.confidence.shape).copy()
        return cls._with_habits(
            truth,
            (
                truth.keypoints + draw.shift_px,
                draw.confidence,
                camera_landmarks(truth) + draw.shift_m,
            ),
            is_lost,
            habits,
            rng,
        )

    @classmethod
    def _with_habits(
        cls,
        truth: Truth,
        found: tuple[FloatArray, FloatArray, FloatArray],
        is_lost: BoolArray,
        habits: DetectorHabits,
        rng: np.random.Generator,
    ) -> _Found:
        """Return keypoints, confidence and metric landmarks after the detector's habits."""
        keypoints, levels, world_m = found
        shape = truth.keypoints.shape[:2]
        is_outlier = rng.random(shape) < habits.outlier_rate
        leap, angle = rng.uniform(60.0, 200.0, shape), rng.uniform(0.0, 2.0 * np.pi, shape)
        is_swapped = rng.random(shape[0]) < habits.swap_rate
        leaps = leap[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        keypoints = keypoints + np.where(is_outlier[..., None], leaps, 0.0)
        outside = (keypoints < 0.0) | (keypoints > np.array(truth.camera.size) - 1.0)
        is_lost |= (outside | np.isnan(keypoints)).any(axis=-1)
        if not habits.has_feet:
            is_lost[:, N_COCO:] = True
        for begin_s, end_s in habits.gaps_s:
            is_lost[(truth.time_s >= begin_s) & (truth.time_s < end_s)] = True
        keypoints = np.where(is_lost[..., None], np.nan, keypoints)
        levels = np.where(is_lost, 0.0, levels)
        for values in (keypoints, levels, world_m):
            values[is_swapped] = values[is_swapped][:, MIRROR]
        return cls(keypoints, levels, truth.boxes, world_m)


def camera_landmarks(truth: Truth) -> FloatArray:
    """Return metric keypoints in camera axes with the origin between the hips, (T, K, 3)."""
    hips = 0.5 * (truth.points_m[:, [11]] + truth.points_m[:, [12]])
    return np.asarray((truth.points_m[:, :N_KEYPOINTS] - hips) @ truth.camera.rotation.T)


def _frame(found: Sequence[_Found], index: int, habits: DetectorHabits) -> PoseDetections:
    """Return one frame's detections, the most confident person first."""
    seen = [
        person
        for person in found
        if index < person.keypoints.shape[0]
        and np.count_nonzero(person.confidence[index]) >= 3
        and not np.isnan(person.boxes[index]).any()
    ]
    if not seen:
        return PoseDetections.empty()
    box_confidence = np.array([person.confidence[index].max() for person in seen])
    order = np.argsort(-box_confidence, kind="stable")
    people = [seen[row] for row in order]
    return PoseDetections(
        keypoints=np.stack([person.keypoints[index] for person in people]),
        confidence=np.stack([person.confidence[index] for person in people]),
        boxes=np.stack([person.boxes[index] for person in people]),
        box_confidence=box_confidence[order],
        world_m=(
            np.stack([person.world_m[index] for person in people]) if habits.has_world else None
        ),
    )
