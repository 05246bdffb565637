"""From the output tensor of a YOLO pose network to people. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.inference.preprocess import Letterbox, NetworkArray
from pose_analyzer.skeleton import N_COCO, N_KEYPOINTS
from pose_analyzer.types import FloatArray, IntArray, PoseDetections

NMS_IOU: Final = 0.7
"""Boxes that overlap more are one person: the default of Ultralytics' predict mode (`iou`)."""
MAX_CANDIDATES: Final = 1000
"""Most boxes that enter the overlap test, best first; it bounds its cost, n^2."""
OUTSIDE_FADE: Final = 0.02
"""A point this far outside has confidence 0 (share of the longer side, chosen by us)."""
OUTSIDE_LIMIT: Final = 0.25
"""A point further outside was not measured: NaN (share of the longer side, chosen by us)."""
_KEYPOINT_COLUMNS: Final = 3 * N_COCO
_FINISHED_COLUMNS: Final = 6 + _KEYPOINT_COLUMNS


@dataclass(frozen=True, slots=True)
class CocoPeople:
    """The people of one picture in the network's own pixels, best first.

    Attributes
    ----------
    boxes : array, shape (P, 4)
        x1, y1, x2, y2.
    scores : array, shape (P,)
        In [0, 1].
    keypoints : array, shape (P, 17, 2)
        COCO order.
    confidence : array, shape (P, 17)
        In [0, 1].
    """

    boxes: FloatArray
    scores: FloatArray
    keypoints: FloatArray
    confidence: FloatArray


def decode_yolo_pose(
    output: NetworkArray, min_confidence: float, iou: float = NMS_IOU
) -> list[CocoPeople]:
    """Return the people in the output of a YOLO pose network.

    Parameters
    ----------
    output : array
        Either raw, shape (B, 4 + classes + 51, N): centre x, centre y, width, height, class
        scores, 17 keypoints as x, y, confidence; or already without duplicates, shape
        (B, N, 6 + 51): x1, y1, x2, y2, score, class, keypoints (the end-to-end networks).
    min_confidence : float
        People at or below it are left out.
    iou : float
        Overlap above which two boxes of a raw output are one person.

    Returns
    -------
    list of CocoPeople
        One for each picture of the batch.

    Raises
    ------
    ValueError
        If the output has another shape, as from a network of other keypoints.
    """
    if output.ndim == 3 and output.shape[2] == _FINISHED_COLUMNS:
        kept = [rows[rows[:, 4] > min_confidence].astype(np.float64) for rows in output]
        return [_people(rows, n_scores=2) for rows in kept]
    n_classes = output.shape[1] - 4 - _KEYPOINT_COLUMNS if output.ndim == 3 else 0
    if n_classes < 1:
        raise ValueError(
            f"expected an output of shape (B, 56, N) or (B, N, 57) for {N_COCO} COCO keypoints, "
            f"got {output.shape}"
        )
    return [_decode_raw(columns, n_classes, min_confidence, iou) for columns in output]


def _decode_raw(
    columns: NetworkArray, n_classes: int, min_confidence: float, iou: float
) -> CocoPeople:
    """Return the people of one raw output, shape (4 + classes + 51, N)."""
    scores = columns[4 : 4 + n_classes].max(axis=0)
    candidates = np.flatnonzero(scores > min_confidence)
    best_first = candidates[np.argsort(-scores[candidates], kind="stable")][:MAX_CANDIDATES]
    rows: FloatArray = columns[:, best_first].T.astype(np.float64)
    half = rows[:, 2:4] / 2.0
    rows[:, 2:4] = rows[:, :2] + half
    rows[:, :2] -= half
    rows[:, 4] = scores[best_first]
    return _people(rows[suppress_overlaps(rows[:, :4], iou)], n_scores=n_classes)


def _people(rows: FloatArray, n_scores: int) -> CocoPeople:
    """Split rows of box, scores and keypoints."""
    keypoints = rows[:, 4 + n_scores :].reshape(-1, N_COCO, 3)
    return CocoPeople(
        boxes=rows[:, :4],
        scores=rows[:, 4],
        keypoints=keypoints[..., :2],
        confidence=keypoints[..., 2],
    )


def suppress_overlaps(boxes: FloatArray, iou: float) -> IntArray:
    """Return the rows that remain when each box removes the later ones that overlap it too much.

    Parameters
    ----------
    boxes : array, shape (N, 4)
        x1, y1, x2, y2, best first.
    iou : float
        Intersection over union above which the later box goes.

    Returns
    -------
    int array, shape (M,)
        Kept rows, in order.

    References
    ----------
    .. [1] A. Neubeck, L. Van Gool, "Efficient Non-Maximum Suppression", ICPR 2006.
    """
    overlaps = box_iou(boxes) > iou
    alive = np.ones(len(boxes), dtype=bool)
    for row in range(len(boxes)):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    return np.flatnonzero(alive)


def box_iou(boxes: FloatArray) -> FloatArray:
    """Return intersection over union of every pair of boxes, shape (N, 4) -> (N, N).

    A pair of empty boxes has no union and gives 0.
    """
    top_left = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = np.prod(np.clip(bottom_right - top_left, 0.0, None), axis=-1)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    union = area[:, None] + area[None, :] - intersection
    overlaps: FloatArray = np.zeros_like(union)
    return np.divide(intersection, union, out=overlaps, where=union > 0.0)


def people_in_picture(people: CocoPeople, box: Letterbox) -> PoseDetections:
    """Return people in pixels of the source picture, on the 21 rows of `skeleton`.

    The four foot rows are NaN with confidence 0: COCO has none. Points outside the picture are
    treated as in `fade_outside`; boxes are cut at its edge.

    Parameters
    ----------
    people : CocoPeople
        In pixels of the network's input.
    box : Letterbox
        Where the picture lies in it.
    """
    return people_in_pictures(people, [box], [len(people.scores)])[0]


def people_in_pictures(
    people: CocoPeople, boxes: Sequence[Letterbox], counts: Sequence[int]
) -> list[PoseDetections]:
    """Return the people of a batch, as `people_in_picture` does of one picture.

    Parameters
    ----------
    people : CocoPeople
        Of all pictures, those of the first first, in pixels of the network's input.
    boxes : sequence of Letterbox
        One for each picture.
    counts : sequence of int
        How many people each picture has.
    """
    # One row for each person, so that a batch costs little more than one picture.
    starts, scales, edges = (
        np.repeat(np.array(values, dtype=np.float64), counts, axis=0)[:, None]
        for values in zip(*((box.start, box.scale, box.source_size) for box in boxes), strict=True)
    )
    n_people = len(people.scores)
    keypoints = np.full((n_people, N_KEYPOINTS, 2), np.nan)
    confidence = np.zeros((n_people, N_KEYPOINTS))
    keypoints[:, :N_COCO] = (people.keypoints - starts) / scales
    confidence[:, :N_COCO] = people.confidence
    keypoints, confidence = _fade(keypoints, confidence, edges)
    corners = (people.boxes.reshape(n_people, 2, 2) - starts) / scales
    corners = np.clip(corners, 0.0, edges).reshape(n_people, 4)
    scores = np.clip(people.scores, 0.0, 1.0)
    ends = np.cumsum(counts)
    return [
        PoseDetections(keypoints[rows], confidence[rows], corners[rows], scores[rows])
        for rows in (slice(end - count, end) for end, count in zip(ends, counts, strict=True))
    ]


def fade_outside(
    keypoints: FloatArray, confidence: FloatArray, shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray]:
    """Return keypoints and confidences with points outside the picture trusted less.

    A network guesses where a limb continues beyond the edge. The confidence of such a point falls
    to 0 within `OUTSIDE_FADE` of the edge; beyond `OUTSIDE_LIMIT` it is NaN. A point that is not
    a number has confidence 0.

    Parameters
    ----------
    keypoints : array, shape (..., 2)
        Pixels.
    confidence : array, shape (...)
        In [0, 1].
    shape : tuple
        ``image.shape``: height, width, ...
    """
    height, width = shape[:2]
    return _fade(keypoints, confidence, np.array([width, height], dtype=np.float64))


def _fade(
    keypoints: FloatArray, confidence: FloatArray, edge: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Do the work of `fade_outside`; width and height of each point's picture, (..., 2)."""
    beyond = np.maximum(-keypoints, keypoints - edge)
    # Of two columns, in a tenth of the time that a reduction takes.
    outside = np.maximum(beyond[..., 0], beyond[..., 1])
    share = np.clip(outside, 0.0, None) / edge.max(axis=-1)
    measured = share <= OUTSIDE_LIMIT
    trust = np.where(measured, np.clip(1.0 - share / OUTSIDE_FADE, 0.0, 1.0), 0.0)
    return (
        np.where(measured[..., None], keypoints, np.nan),
        np.clip(confidence, 0.0, 1.0) * trust,
    )
