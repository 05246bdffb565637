"""How keypoints move and how well they are measured: the model of the Kalman filters.

Constant acceleration driven by white jerk, with measurement noise in proportion to the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.types import FloatArray

MIN_SIZE_PX: Final = 20.0
"""A body smaller than this cannot be told from noise; keeps the scale of a bad box positive."""
_MIN_CONFIDENCE: Final = 0.05
"""Keeps the variance of an unsure measurement finite; the gate of the tracker is far above."""
_SIZE_CONSTANT_S: Final = 10.0
"""A body that crouches keeps its size: the box diagonal is held and fades this slowly."""
_ORDERED: Final = (
    ("still_jerk", "moving_jerk"),
    ("moving_jerk", "fast_jerk"),
    ("still_speed", "moving_speed"),
    ("moving_speed", "fast_speed"),
    ("still_bias", "moving_bias"),
    ("still_gate", "moving_gate"),
)


@dataclass(frozen=True)
class KalmanConfig:
    """How far measurements and motion are believed.

    Sizes are relative to the body (the diagonal of its box), so one setting serves every
    distance from the camera. All defaults are chosen by us, see reports/smoothing.

    Attributes
    ----------
    noise_size : float
        Standard deviation of a sure measurement, as a share of the body size.
    min_noise_px : float
        The least standard deviation of a measurement, in pixels.
    still_jerk, moving_jerk, fast_jerk : float
        Density of the white jerk that drives a point at rest, in motion and in fast motion: by
        how many body sizes/s² its acceleration wanders in a second.
    two_way_jerk : float
        The same for smoothing in both directions, which needs no adaptation.
    still_speed, moving_speed, fast_speed : float
        Speeds in body sizes/s up to which a point is taken as at rest, and from which it has the
        jerk of motion and of fast motion; between them the logarithm of the jerk rises steadily.
    still_bias, moving_bias : float
        The same for the evidence of a manoeuvre: the squared mean innovation over its expected
        square, 1 for pure noise.
    bias_constant_s, level_constant_s : float
        Time constants of that mean, and of the fall of the level back to rest.
    rest_constant_s : float
        Time constant with which velocity and acceleration of a point at rest fade.
    coast_velocity_s, coast_acceleration_s : float
        The same for a point that is not measured and only predicted.
    start_speed, start_acceleration : float
        Standard deviations in body sizes/s and /s² of a point seen for the first time.
    gate : float
        Largest squared Mahalanobis distance of an accepted measurement.
    still_gate, moving_gate : float
        Accelerations in body sizes/s² that the gate lets through, whatever the filter expects, at
        rest and in motion.
    max_rejected : int
        After so many rejections in a row the measurements are believed and the point starts anew.
    max_gap_s : float
        How long a point that is not measured is predicted.
    adaptive, gated : bool
        False turns adaptation off (the jerk is always `moving_jerk`), or the gate.

    References
    ----------
    .. [1] Y. Bar-Shalom, X. R. Li, T. Kirubarajan, "Estimation with Applications to Tracking and
       Navigation", 2001: sections 6.2.3 (white jerk), 11.2 (adjusting the process noise by the
       innovations), 5.4 (chi-square test; 13.82 is the 99.9 % point of two degrees of freedom).
    """

    noise_size: float = 0.005
    min_noise_px: float = 1.0
    still_jerk: float = 0.002
    moving_jerk: float = 7.0
    fast_jerk: float = 100.0
    two_way_jerk: float = 6.0
    still_speed: float = 0.02
    moving_speed: float = 0.25
    fast_speed: float = 1.5
    still_bias: float = 2.0
    moving_bias: float = 8.0
    bias_constant_s: float = 0.2
    level_constant_s: float = 0.05
    rest_constant_s: float = 2.0
    coast_velocity_s: float = 0.5
    coast_acceleration_s: float = 0.04
    start_speed: float = 1.0
    start_acceleration: float = 6.0
    gate: float = 13.82
    still_gate: float = 20.0
    moving_gate: float = 60.0
    max_rejected: int = 3
    max_gap_s: float = 0.25
    adaptive: bool = True
    gated: bool = True

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{one.name} must be a positive number, got {value}")
        for low, high in _ORDERED:
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} must be less than {high}")
        if self.max_rejected < 1:
            raise ValueError(f"max_rejected must be at least 1, got {self.max_rejected}")

    @cached_property
    def bias_slope(self) -> float:
        """Rise of the level for each unit of manoeuvre evidence."""
        return 1.0 / (self.moving_bias - self.still_bias)

    @cached_property
    def speed_slope(self) -> float:
        """Rise of the level for each body size a second."""
        return 1.0 / (self.moving_speed - self.still_speed)

    @cached_property
    def gate_rise(self) -> float:
        """Share by which the gate's acceleration rises from rest to motion."""
        return self.moving_gate / self.still_gate - 1.0

    @cached_property
    def fast_slope(self) -> float:
        """Rise of the level above full motion for each body size a second."""
        return (self.max_level - 1.0) / (self.fast_speed - self.moving_speed)

    @cached_property
    def max_level(self) -> float:
        """Level at `fast_jerk`; full motion is 1."""
        still, rise = self.log_jerk
        return (2.0 * math.log(self.fast_jerk) - still) / rise

    @cached_property
    def log_jerk(self) -> tuple[float, float]:
        """Logarithm of the squared jerk at rest, and its rise to full motion."""
        still = 2.0 * math.log(self.still_jerk)
        return still, 2.0 * math.log(self.moving_jerk) - still


class Step(NamedTuple):
    """What the passing of `dt_s` seconds does to every filter."""

    dt_s: float
    transition: FloatArray
    covariance_transition: FloatArray
    process_noise: FloatArray
    bias_share: float
    bias_scale: float
    level_decay: float
    rest_share: float
    coast_velocity: float
    coast_acceleration: float


def make_step(dt_s: float, config: KalmanConfig) -> Step:
    """Return the step of `dt_s` seconds.

    Notes
    -----
    ``transition`` is F (3, 3). ``covariance_transition`` (6, 6) applies ``F P F'`` to the packed
    covariance (P00, P01, P02, P11, P12, P22); ``process_noise`` (6, 1, 1) is white jerk of unit
    density, integrated over the step [1]_, packed alike. The tests hold it to filterpy's
    `Q_continuous_white_noise`; importing that here would cost a second of start-up.
    """
    d, h = dt_s, 0.5 * dt_s * dt_s
    d2, d3 = d * d, d * d * d
    transition = np.array([[1.0, d, h], [0.0, 1.0, d], [0.0, 0.0, 1.0]])
    covariance_transition = np.array(
        [
            [1.0, 2.0 * d, 2.0 * h, d2, 2.0 * d * h, h * h],
            [0.0, 1.0, d, d, d2 + h, d * h],
            [0.0, 0.0, 1.0, 0.0, d, h],
            [0.0, 0.0, 0.0, 1.0, 2.0 * d, d2],
            [0.0, 0.0, 0.0, 0.0, 1.0, d],
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        ]
    )
    noise = [d3 * d2 / 20.0, d2 * d2 / 8.0, d3 / 6.0, d3 / 3.0, d2 / 2.0, d]
    share = -math.expm1(-d / config.bias_constant_s)
    return Step(
        d,
        transition,
        covariance_transition,
        np.array(noise).reshape(6, 1, 1),
        share,
        # An exponential mean of unit normal innovations has variance share / (2 - share); the
        # half makes the mean over both coordinates 1.
        (2.0 - share) / share * 0.5,
        math.exp(-d / config.level_constant_s),
        -math.expm1(-d / config.rest_constant_s),
        math.exp(-d / config.coast_velocity_s),
        math.exp(-d / config.coast_acceleration_s),
    )


class BodyScale:
    """Body sizes of the people, and what of the filters is proportional to them.

    Attributes
    ----------
    size_px : list of float
        Held diagonal of each person's box.
    variance, jerk, per_size, gate_px2 : array, shape (P, 1)
        Measurement variance at full confidence, squared size, inverse size, and the slack of the
        gate for a step of one second (to be multiplied by dt⁴).
    """

    __slots__ = ("gate_px2", "jerk", "per_size", "size_px", "variance")

    def __init__(self, size_px: Sequence[float], config: KalmanConfig) -> None:
        self.size_px = list(size_px)
        size = np.array(self.size_px).reshape(-1, 1)
        self.variance = np.maximum(size * config.noise_size, config.min_noise_px) ** 2
        self.jerk = size * size
        self.per_size = 1.0 / size
        self.gate_px2 = config.gate * self.jerk * (0.5 * config.still_gate) ** 2


def measurement_variance(confidence: FloatArray, scale: BodyScale) -> FloatArray:
    """Return the variance of each coordinate: that of a sure one over the squared confidence."""
    sure = np.maximum(confidence, _MIN_CONFIDENCE)
    sure *= sure
    variance: FloatArray = scale.variance / sure
    return variance


def held_sizes(boxes: FloatArray, held_px: Sequence[float], dt_s: float) -> list[float]:
    """Return the box diagonals, none smaller than its slowly fading largest value."""
    fade = 1.0 - dt_s / _SIZE_CONSTANT_S
    sizes = []
    for (x1, y1, x2, y2), held in zip(boxes.tolist(), held_px, strict=True):
        diagonal = math.hypot(x2 - x1, y2 - y1)
        # A box that is not finite compares false and leaves what was held.
        sizes.append(max(held * fade, MIN_SIZE_PX, diagonal if diagonal < math.inf else 0.0))
    return sizes
