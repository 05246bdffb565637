"""Exchanged sides of the body: found and repaired.

Seen from the side, detectors mix up left and right for some frames. A limb that is suddenly where
its mirror image was expected, and the other way round, has been exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.skeleton import KEYPOINT_NAMES, MIRROR
from pose_analyzer.types import BoolArray, FloatArray


def _points_of(*parts: str) -> BoolArray:
    return np.array([name.split("_", 1)[-1] in parts for name in KEYPOINT_NAMES])


_LIMBS: Final = (_points_of("elbow", "wrist"), _points_of("knee", "ankle", "heel", "big_toe"))
"""What is exchanged as a whole: arms, legs."""
_ROOTS: Final = (_points_of("shoulder"), _points_of("hip"))
"""Goes with its limb if it fits better there."""
_HEAD: Final = _points_of("eye", "ear")
"""Goes with the whole body, both limbs, if it fits better there."""


@dataclass(frozen=True, slots=True)
class SwapConfig:
    """When two sides count as exchanged. All values are chosen by us, see reports/smoothing.

    Attributes
    ----------
    separation : float
        Least distance between the two sides of a limb, as a share of the body size. It must be
        large against the noise of the keypoints, else nothing is decided.
    ratio : float
        The exchanged limb must fit the expectation at least so much better: its squared distance
        at most this share of that of the limb as labelled.
    accept_s : float
        After so long an exchange without a break the detector is believed: the athlete has turned.
    """

    separation: float = 0.05
    ratio: float = 0.35
    accept_s: float = 0.5

    def __post_init__(self) -> None:
        if not (self.separation > 0.0 and self.accept_s > 0.0 and 0.0 < self.ratio < 1.0):
            raise ValueError("separation and accept_s must be positive and ratio within (0, 1)")


class SwapRepair:
    """The left/right state of one person.

    Attributes
    ----------
    n_swaps : int
        Exchanges of a limb that were repaired; one that lasts several frames counts once, one of
        the whole body once.
    """

    __slots__ = ("_since_s", "config", "n_swaps")

    def __init__(self, config: SwapConfig) -> None:
        self.config = config
        self.n_swaps = 0
        self._since_s: list[float | None] = [None] * len(_LIMBS)

    def find(
        self, keypoints: FloatArray, expected: FloatArray, size_px: float, time_s: float
    ) -> BoolArray | None:
        """Return which keypoints to exchange with their mirror image.

        Parameters
        ----------
        keypoints, expected : array, shape (K, 2)
            As detected, and as predicted from the frames before; NaN = unknown.
        size_px : float
            Diagonal of the body's box.
        time_s : float
            Of the frame.

        Returns
        -------
        bool array, shape (K,), or None
            Symmetric in left and right; None if there is nothing to exchange.
        """
        assigned = _squared(keypoints - expected)
        gain = assigned - _squared(keypoints[MIRROR] - expected)
        least = (self.config.separation * size_px) ** 2
        # A pair that is exchanged and apart gains this much, so most frames end here.
        if not (gain > least).any():
            self._since_s = [None] * len(_LIMBS)
            return None
        gain += gain[MIRROR]
        known = np.isfinite(gain)
        apart = _squared(expected - expected[MIRROR])
        repaired = []
        n_began = 0
        for index, limb in enumerate(_LIMBS):
            points = limb & known
            is_exchanged = self._is_exchanged(assigned[points], gain[points], apart[points], least)
            n_began += is_exchanged and self._since_s[index] is None
            repaired.append(self._follow(index, is_exchanged, time_s))
        self.n_swaps += min(n_began, 1)
        return _points_to_exchange(repaired, known & (gain > 0.0))

    def _is_exchanged(
        self, assigned: FloatArray, gain: FloatArray, apart: FloatArray, least: float
    ) -> bool:
        """Return whether the points of a limb fit clearly better the other way round."""
        if not assigned.size or float(apart.mean()) <= least:
            return False
        as_labelled = float(assigned.sum())
        # A pair's gain stands at both of its points.
        swapped = as_labelled - 0.5 * float(gain.sum())
        return swapped <= self.config.ratio * as_labelled

    def _follow(self, limb: int, is_exchanged: bool, time_s: float) -> bool:
        """Return whether to repair: for a while, then the detector is believed."""
        if not is_exchanged:
            self._since_s[limb] = None
            return False
        since_s = self._since_s[limb]
        if since_s is None:
            self._since_s[limb] = since_s = time_s
        return time_s - since_s < self.config.accept_s


def _squared(difference: FloatArray) -> FloatArray:
    difference *= difference
    squared: FloatArray = difference[..., 0] + difference[..., 1]
    return squared


def _points_to_exchange(repaired: list[bool], fits: BoolArray) -> BoolArray | None:
    """Return the whole limbs, and of their roots and the head what fits better exchanged."""
    if not any(repaired):
        return None
    points = np.zeros(fits.shape, dtype=np.bool_)
    for limb, root, is_repaired in zip(_LIMBS, _ROOTS, repaired, strict=True):
        if is_repaired:
            points |= limb | (root & fits)
    if all(repaired):
        points |= _HEAD & fits
    return points
