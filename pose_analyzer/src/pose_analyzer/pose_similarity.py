"""How alike poses are: object keypoint similarity and box overlap."""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.skeleton import OKS_SIGMAS
from pose_analyzer.types import FloatArray, IntArray

_TWO_VARIANCES: Final[FloatArray] = 2.0 * (2.0 * OKS_SIGMAS) ** 2
_THINNEST: Final = 0.125
"""A body seen from the side has a thin box: its area counts as at least this share of the squared
diagonal (chosen by us; a box of 1 to 4 lies just there with its quarter of the diagonal)."""


def oks_area(boxes: FloatArray) -> FloatArray:
    """Return the area by which keypoint distances are scaled, shape (..., 4) -> (...), px²."""
    side = boxes[..., 2:] - boxes[..., :2]
    squared = side * side
    area = side[..., 0] * side[..., 1]
    floor = (squared[..., 0] + squared[..., 1]) * _THINNEST
    return np.maximum(np.maximum(area, floor), 1.0)


def oks(first: FloatArray, second: FloatArray, area: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the object keypoint similarity of poses, over the keypoints that both have.

    Parameters
    ----------
    first, second : array, shape (..., K, 2)
        Pixels, of shapes that broadcast; NaN = not seen.
    area : array, shape (...)
        Of the body, in px².

    Returns
    -------
    similarity : array, shape (...)
        1 for the same pose, to 0; 0 where no keypoint is common.
    n_common : int array, shape (...)
        Keypoints that both have.

    References
    ----------
    .. [1] COCO keypoint evaluation, https://cocodataset.org/#keypoints-eval.
    """
    difference = first - second
    difference *= difference
    distance = difference[..., 0] + difference[..., 1]
    distance /= _TWO_VARIANCES
    distance /= area[..., None]
    np.negative(distance, out=distance)
    np.exp(distance, out=distance)
    # Only a number equals itself.
    n_common = np.count_nonzero(distance == distance, axis=-1)
    total = np.add.reduce(np.fmax(distance, 0.0), axis=-1)
    return total / np.maximum(n_common, 1), n_common


def iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes of shapes (..., 4) that broadcast."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    overlap = np.maximum(high - low, 0.0).prod(axis=-1)
    areas = (first[..., 2:] - first[..., :2]).prod(axis=-1) + (
        second[..., 2:] - second[..., :2]
    ).prod(axis=-1)
    share: FloatArray = overlap / np.maximum(areas - overlap, 1e-9)
    return share
