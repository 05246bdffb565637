"""What an exported pose network lost: keypoints and joint angles against its source and the truth.

Pure functions of detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.biomechanics import JointAngleCalculator
from pose_analyzer.pose_similarity import oks, oks_area
from pose_analyzer.types import BoolArray, FloatArray, IntArray, PoseDetections

MAX_KEYPOINT_LOSS: Final = 0.02
"""Most of its OKS mAP that an export may lose (chosen by us, see reports/export.md)."""
LOWEST_CONFIDENCE: Final = 0.1
"""Networks are compared on the people above it, so that AP sees its low end (chosen by us)."""
SURE: Final = 0.5
"""A person or keypoint of the source counts as truth from this confidence (chosen by us)."""
_THRESHOLDS: Final = np.arange(0.50, 0.96, 0.05)
"""OKS from which a person counts as found [1]_ of `oks_map`."""
_RECALLS: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class TruePeople:
    """Who is in one picture.

    Attributes
    ----------
    keypoints : array, shape (P, K, 2)
        Pixels; NaN where not known.
    area : array, shape (P,)
        Of each body in px².
    counts : bool array, shape (P,)
        False: whoever finds this person gains nothing and loses nothing.
    """

    keypoints: FloatArray
    area: FloatArray
    counts: BoolArray


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near an export comes to its source on held-out frames.

    Attributes
    ----------
    n_frames : int
        Held-out frames.
    n_people : int
        People that the source is sure of in them.
    map_source : float
        OKS mAP of the export with the source's sure people as truth, in [0, 1]; the source itself
        has 1. NaN if there is nobody.
    angle_deg, angle_p95_deg : float
        Mean and 95th percentile of absolute differences of joint angles; NaN if there are none.
    n_angles : int
        Angles that were compared.
    true_map_source, true_map_export : float
        OKS mAP of source and export against true keypoints; NaN where no truth is known.
    """

    n_frames: int
    n_people: int
    map_source: float
    angle_deg: float
    angle_p95_deg: float
    n_angles: int
    true_map_source: float
    true_map_export: float

    @property
    def keypoint_loss(self) -> float:
        """The larger share of OKS mAP lost: against the source, and against the truth if known."""
        loss = 1.0 - self.map_source
        if self.true_map_source > 0.0:
            loss = max(loss, 1.0 - self.true_map_export / self.true_map_source)
        return loss

    @property
    def holds(self) -> bool:
        """Whether the loss is measured and at most `MAX_KEYPOINT_LOSS`."""
        return self.keypoint_loss <= MAX_KEYPOINT_LOSS

    def sentence(self) -> str:
        """Return both figures in words."""
        return (
            f"keypoint loss {self.keypoint_loss:.2%} (OKS mAP {self.map_source:.4f} against the "
            f"source), mean joint-angle difference {self.angle_deg:.2f} deg, "
            f"on {self.n_frames} held-out frames with {self.n_people} people"
        )


def compare(
    source: Sequence[PoseDetections],
    export: Sequence[PoseDetections],
    truth: Sequence[TruePeople] | None = None,
) -> Agreement:
    """Return how near the export's people come to the source's, frame by frame.

    Parameters
    ----------
    source, export : sequence of PoseDetections
        Of the same frames, people above `LOWEST_CONFIDENCE`.
    truth : sequence of TruePeople, optional
        Of the same frames, where the true keypoints are known.
    """
    reference = [people_as_truth(people) for people in source]
    differences = [angle_differences(*pair) for pair in zip(export, reference, strict=True)]
    angles = np.abs(np.concatenate([np.empty(0), *differences]))
    true_maps = (
        (float("nan"), float("nan"))
        if truth is None
        else (oks_map(source, truth), oks_map(export, truth))
    )
    return Agreement(
        n_frames=len(source),
        n_people=sum(int(people.counts.sum()) for people in reference),
        map_source=oks_map(export, reference),
        angle_deg=float(angles.mean()) if angles.size else float("nan"),
        angle_p95_deg=float(np.percentile(angles, 95)) if angles.size else float("nan"),
        n_angles=int(angles.size),
        true_map_source=true_maps[0],
        true_map_export=true_maps[1],
    )


def people_as_truth(people: PoseDetections) -> TruePeople:
    """Return a network's people as truth: keypoints it is sure of; unsure people do not count."""
    known = people.confidence >= SURE
    keypoints = np.where(known[..., None], people.keypoints, np.nan)
    counts = (people.box_confidence >= SURE) & known.any(axis=1)
    return TruePeople(keypoints, oks_area(people.boxes), counts)


def oks_map(found: Sequence[PoseDetections], truth: Sequence[TruePeople]) -> float:
    """Return the mean average precision over object keypoint similarities of .50 to .95.

    Parameters
    ----------
    found : sequence of PoseDetections
        One for each picture.
    truth : sequence of TruePeople
        Of the same pictures.

    Returns
    -------
    float
        In [0, 1]; NaN if the truth holds nobody that counts.

    References
    ----------
    .. [1] COCO keypoint evaluation, https://cocodataset.org/#keypoints-eval: best first, each
       person found takes the most similar one still free; precision is read at 101 recalls.
    """
    n_true = sum(int(people.counts.sum()) for people in truth)
    if n_true == 0:
        return float("nan")
    tables = [similarities(*pair) for pair in zip(found, truth, strict=True)]
    scores = np.concatenate([np.empty(0), *(people.box_confidence for people in found)])
    order = np.argsort(-scores, kind="stable")
    precisions = []
    for threshold in _THRESHOLDS:
        pairs = zip(found, truth, tables, strict=True)
        hits = [_hits(one, true, table, float(threshold)) for one, true, table in pairs]
        ranked = np.concatenate([np.empty(0), *hits])[order]
        precisions.append(_average_precision(ranked[np.isfinite(ranked)], n_true))
    return float(np.mean(precisions))


def similarities(found: PoseDetections, truth: TruePeople) -> FloatArray:
    """Return the object keypoint similarity of everyone found to everyone true, shape (P, Q)."""
    similarity, _ = oks(found.keypoints[:, None], truth.keypoints[None], truth.area[None])
    return similarity


def matches(found: PoseDetections, table: FloatArray, threshold: float) -> IntArray:
    """Return the column that each person found takes, -1 for none; best scores choose first."""
    taken = np.full(found.n_people, -1, dtype=np.intp)
    free = table.copy()
    for row in np.argsort(-found.box_confidence, kind="stable"):
        if free.shape[1] and free[row].max() >= threshold:
            taken[row] = free[row].argmax()
            free[:, taken[row]] = -1.0
    return taken


def angle_differences(export: PoseDetections, reference: TruePeople) -> FloatArray:
    """Return export minus reference of every angle known of both, shape (N,), in degrees."""
    taken = matches(export, similarities(export, reference), float(_THRESHOLDS[0]))
    rows = np.flatnonzero(taken >= 0)
    rows = rows[reference.counts[taken[rows]]]
    calculator = JointAngleCalculator()
    known = reference.keypoints[taken[rows]]
    # Unseen in one is unseen in both: the trunk would else run between other points.
    ours = np.where(np.isnan(known), np.nan, export.keypoints[rows])
    difference: FloatArray = calculator.angles(ours) - calculator.angles(known)
    return np.asarray(difference[np.isfinite(difference)])


def _hits(
    found: PoseDetections, truth: TruePeople, table: FloatArray, threshold: float
) -> FloatArray:
    """Return 1 for who is right, 0 for who is not, NaN for who does not count, shape (P,)."""
    counted = matches(found, np.where(truth.counts, table, -1.0), threshold)
    ignored = (table[:, ~truth.counts] >= threshold).any(axis=1)
    return np.where(counted >= 0, 1.0, np.where(ignored, np.nan, 0.0))


def _average_precision(hits: FloatArray, n_true: int) -> float:
    """Return the area under precision over recall of hits, best first."""
    if hits.size == 0:
        return 0.0
    right = np.cumsum(hits)
    recall = right / n_true
    precision = right / np.arange(1, hits.size + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALLS, side="left")
    reached = np.append(envelope, 0.0)
    return float(reached[np.minimum(place, hits.size)].mean())
