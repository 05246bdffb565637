"""Constant-acceleration Kalman filters for many image points at once.

Every point of every person is one filter with the state (position, velocity, acceleration) in two
coordinates that share one covariance. The arithmetic is laid out for numpy: a state array of
shape (3, P, K, 2) and the six different covariances (6, P, K), so that a step of all filters is
about fifty calls whatever the number of people.

`KalmanSmoother` decides which measurement belongs to which filter; this module only computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from pose_analyzer.types import BoolArray, FloatArray

MIN_SIZE_PX: Final = 20.0
"""A body smaller than this cannot be told from noise; keeps the scale of a bad box positive."""
_SIZE_CONSTANT_S: Final = 10.0
"""A body that crouches keeps its size: the box diagonal is held and fades this slowly."""


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
    still_jerk, moving_jerk : float
        Density of the white jerk that drives a point at rest and in motion: by how many body
        sizes/s² its acceleration wanders in one second.
    still_speed, moving_speed : float
        Speeds in body sizes/s below which a point is taken as at rest and above which as moving;
        between them the level of jerk rises steadily.
    still_bias, moving_bias : float
        The same for the evidence of a manoeuvre: the squared mean innovation over its expected
        square, 1 for pure noise.
    bias_constant_s, level_constant_s : float
        Time constants of that mean, and of the fall of the level back to rest.
    start_speed, start_acceleration : float
        Standard deviations in body sizes/s and /s² of a point seen for the first time.
    gate : float
        Largest squared Mahalanobis distance of an accepted measurement.
    gate_acceleration : float
        Acceleration in body sizes/s² that the gate must let through, whatever the filter expects.
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
    still_jerk: float = 0.003
    moving_jerk: float = 4.0
    still_speed: float = 0.02
    moving_speed: float = 0.3
    still_bias: float = 1.25
    moving_bias: float = 10.0
    bias_constant_s: float = 0.37
    level_constant_s: float = 0.05
    start_speed: float = 0.5
    start_acceleration: float = 3.0
    gate: float = 13.82
    gate_acceleration: float = 20.0
    max_rejected: int = 3
    max_gap_s: float = 0.25
    adaptive: bool = True
    gated: bool = True

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{one.name} must be a positive number, got {value}")
        for name in ("jerk", "speed", "bias"):
            if getattr(self, f"still_{name}") >= getattr(self, f"moving_{name}"):
                raise ValueError(f"still_{name} must be less than moving_{name}")
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
        self.gate_px2 = config.gate * self.jerk * (0.5 * config.gate_acceleration) ** 2


def held_sizes(boxes: FloatArray, held_px: Sequence[float], dt_s: float) -> list[float]:
    """Return the box diagonals, none smaller than its slowly fading largest value."""
    fade = 1.0 - dt_s / _SIZE_CONSTANT_S
    sizes = []
    for (x1, y1, x2, y2), held in zip(boxes.tolist(), held_px, strict=True):
        diagonal = math.hypot(x2 - x1, y2 - y1)
        # A box that is not finite compares false and leaves what was held.
        sizes.append(max(held * fade, MIN_SIZE_PX, diagonal if diagonal < math.inf else 0.0))
    return sizes


class FilterBank:
    """The filters of P people with K points each.

    A filter that has no state (never measured, or lost for too long) holds NaN everywhere and
    ``unseen_s`` is infinite.

    Attributes
    ----------
    state : array, shape (3, P, K, 2)
        Position, velocity and acceleration in px, px/s and px/s².
    covariance : array, shape (6, P, K)
        Packed upper triangle: P00, P01, P02, P11, P12, P22.
    bias : array, shape (P, K, 2)
        Exponential mean of the normalised innovations: its length tells manoeuvre from noise.
    level : array, shape (P, K)
        0 at rest to 1 in full motion.
    unseen_s : array, shape (P, K)
        Seconds since the last accepted measurement.
    rejected : array, shape (P, K)
        Rejections in a row.
    """

    __slots__ = ("bias", "config", "covariance", "level", "rejected", "state", "unseen_s")

    def __init__(self, n_people: int, n_points: int, config: KalmanConfig) -> None:
        shape = (n_people, n_points)
        self.config = config
        self.state = np.full((3, *shape, 2), np.nan)
        self.covariance = np.full((6, *shape), np.nan)
        self.bias = np.full((*shape, 2), np.nan)
        self.level = np.full(shape, np.nan)
        self.unseen_s = np.full(shape, np.inf)
        self.rejected = np.zeros(shape, dtype=np.intp)

    def copy_row(self, row: int, other: FilterBank, other_row: int) -> None:
        """Take over one person of another bank."""
        self.state[:, row] = other.state[:, other_row]
        self.covariance[:, row] = other.covariance[:, other_row]
        for name in ("bias", "level", "unseen_s", "rejected"):
            getattr(self, name)[row] = getattr(other, name)[other_row]

    def predict(self, step: Step, scale: BodyScale) -> None:
        """Let the time of `step` pass."""
        # New arrays, not in place: what `state` was may have been handed out.
        shape = self.state.shape
        self.state = (step.transition @ self.state.reshape(3, -1)).reshape(shape)
        covariance = step.covariance_transition @ self.covariance.reshape(6, -1)
        self.covariance = covariance.reshape(6, *shape[1:3])
        if self.config.adaptive:
            still, rise = self.config.log_jerk
            jerk = self.level * rise
            jerk += still
            np.exp(jerk, out=jerk)
            jerk *= scale.jerk
        else:
            jerk = np.broadcast_to(scale.jerk * self.config.moving_jerk**2, shape[1:3])
        self.covariance += step.process_noise * jerk

    def correct(
        self, measured: FloatArray, variance: FloatArray, step: Step, scale: BodyScale
    ) -> BoolArray | None:
        """Update all filters with one measurement each, and their level of motion.

        Parameters
        ----------
        measured : array, shape (P, K, 2)
            NaN where there is no measurement.
        variance : array, shape (P, K)
            Of each coordinate of the measurement.
        step : Step
            The one that was predicted.
        scale : BodyScale
            The body sizes.

        Returns
        -------
        bool array, shape (P, K), or None
            Which measurements were accepted; None for all of them.
        """
        covariance = self.covariance
        innovation = measured - self.state[0]
        innovation_variance = covariance[0] + variance
        accepted = self._accepted(innovation, innovation_variance, step, scale)
        inverse = 1.0 / innovation_variance
        if accepted is not None:
            rejected = ~accepted
            np.copyto(inverse, 0.0, where=rejected)
            np.copyto(innovation, 0.0, where=rejected[..., None])
        gain = covariance[:3] * inverse
        self.state += gain[..., None] * innovation
        covariance[5] -= gain[2] * covariance[2]
        covariance[3:5] -= gain[1] * covariance[1:3]
        covariance[:3] *= 1.0 - gain[0]
        if self.config.adaptive:
            self._adapt(innovation, inverse, step, scale)
        return accepted

    def start(
        self, where: BoolArray, measured: FloatArray, variance: FloatArray, scale: BodyScale
    ) -> None:
        """Begin anew at the measurement, at rest but free to move, where `where` says so."""
        config = self.config
        self.state[:, where] = 0.0
        self.state[0, where] = measured[where]
        self.covariance[:, where] = 0.0
        self.covariance[0, where] = variance[where]
        size = np.broadcast_to(scale.jerk, where.shape)[where]
        self.covariance[3, where] = size * config.start_speed**2
        self.covariance[5, where] = size * config.start_acceleration**2
        self.bias[where] = 0.0
        self.level[where] = 1.0
        self.unseen_s[where] = 0.0
        self.rejected[where] = 0

    def forget(self, where: BoolArray) -> None:
        """Drop the state where `where` says so."""
        self.state[:, where] = np.nan
        self.covariance[:, where] = np.nan
        self.bias[where] = np.nan
        self.level[where] = np.nan
        self.unseen_s[where] = np.inf
        self.rejected[where] = 0

    def _accepted(
        self, innovation: FloatArray, variance: FloatArray, step: Step, scale: BodyScale
    ) -> BoolArray | None:
        """Return which innovations pass the gate; None for all."""
        squared = innovation * innovation
        distance = squared[..., 0] + squared[..., 1]
        # NaN, no measurement or no state, compares false.
        accepted: BoolArray
        if self.config.gated:
            limit = variance * self.config.gate
            limit += scale.gate_px2 * step.dt_s**4
            accepted = distance <= limit
        else:
            accepted = distance < np.inf
        return None if accepted.all() else accepted

    def _adapt(
        self, innovation: FloatArray, inverse: FloatArray, step: Step, scale: BodyScale
    ) -> None:
        """Raise the level where innovations keep their direction or the point is fast."""
        config, bias = self.config, self.bias
        bias *= 1.0 - step.bias_share
        innovation *= (np.sqrt(inverse) * step.bias_share)[..., None]
        bias += innovation
        squared = bias * bias
        evidence = squared[..., 0] + squared[..., 1]
        evidence *= step.bias_scale * config.bias_slope
        evidence -= config.still_bias * config.bias_slope
        speed = np.hypot(self.state[1, ..., 0], self.state[1, ..., 1])
        speed *= scale.per_size * config.speed_slope
        speed -= config.still_speed * config.speed_slope
        level = self.level
        level *= step.level_decay
        np.maximum(level, evidence, out=level)
        np.maximum(level, speed, out=level)
        np.minimum(level, 1.0, out=level)
