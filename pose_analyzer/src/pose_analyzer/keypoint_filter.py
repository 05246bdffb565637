"""Constant-acceleration Kalman filters for many image points at once.

Every point of every person is one filter with the state (position, velocity, acceleration) in two
coordinates that share one covariance. The arithmetic is laid out for numpy: a state array of
shape (3, P, K, 2) and the six different covariances (6, P, K), so that a step of all filters is
about fifty calls whatever the number of people.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.motion_model import BodyScale, KalmanConfig, Step
from pose_analyzer.types import BoolArray, FloatArray

_ROUNDING_S: Final = 1e-9


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

    def expire(self, dt_s: float) -> None:
        """Let the gaps grow by `dt_s` and drop what has not been measured for too long."""
        self.unseen_s += dt_s
        lost = self.unseen_s > self.config.max_gap_s + _ROUNDING_S
        # Only a number equals itself: what is NaN was dropped before.
        lost &= self.level == self.level
        if np.count_nonzero(lost):
            self._forget(lost)

    def bridge(
        self, accepted: BoolArray, measured: FloatArray, variance: FloatArray, scale: BodyScale
    ) -> BoolArray | None:
        """Count rejections, and start filters that have no state or are refuted.

        Parameters
        ----------
        accepted : bool array, shape (P, K)
            From `correct`. What is started is added to it.
        measured, variance, scale
            As for `correct`.

        Returns
        -------
        bool array, shape (P, K), or None
            The filters that were started; None if there is none.
        """
        np.copyto(self.unseen_s, 0.0, where=accepted)
        np.copyto(self.rejected, 0, where=accepted)
        # Only a number equals itself, so this counts the coordinates that were measured.
        if np.count_nonzero(measured == measured) == 2 * np.count_nonzero(accepted):
            return None
        refused = np.isfinite(measured[..., 0] + measured[..., 1])
        refused &= ~accepted
        self.rejected[refused] += 1
        started: BoolArray = np.isnan(self.level)
        started |= self.rejected >= self.config.max_rejected
        started &= refused
        self._start(started, measured, variance, scale)
        # One rejection is an outlier, two in a row may be a motion that began at once.
        self._loosen(self.rejected > 1, scale)
        accepted |= started
        return started

    def coast(self, where: BoolArray, step: Step) -> None:
        """Let motion fade where it is only predicted: an acceleration does not last."""
        if self.config.adaptive:
            velocity = np.where(where, step.coast_velocity, 1.0)
            acceleration = np.where(where, step.coast_acceleration, 1.0)
            self.state[1] *= velocity[..., None]
            self.state[2] *= acceleration[..., None]
            scale = (velocity, acceleration, velocity**2, velocity * acceleration, acceleration**2)
            self.covariance[1:] *= np.stack(scale)

    def _start(
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

    def _loosen(self, where: BoolArray, scale: BodyScale) -> None:
        """Doubt velocity and acceleration as at the start, and expect motion."""
        if np.count_nonzero(where):
            config = self.config
            size = np.broadcast_to(scale.jerk, where.shape)[where]
            self.covariance[3, where] += size * config.start_speed**2
            self.covariance[5, where] += size * config.start_acceleration**2
            self.level[where] = 1.0

    def _forget(self, where: BoolArray) -> None:
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
        if not self.config.gated:
            accepted: BoolArray = distance < np.inf
        else:
            limit = variance * self.config.gate
            # Most frames hold nothing that the plain gate would reject.
            if np.count_nonzero(distance > limit):
                limit += self._slack(step, scale)
            accepted = distance <= limit
        # NaN, no measurement or no state, compares false.
        return None if np.count_nonzero(accepted) == accepted.size else accepted

    def _slack(self, step: Step, scale: BodyScale) -> FloatArray:
        """Return by how much the gate is wider, more so in motion: a limb may turn at once."""
        slack: FloatArray = self.level * self.config.gate_rise
        slack += 1.0
        slack *= slack
        slack *= scale.gate_px2 * step.dt_s**4
        return slack

    def _adapt(
        self, innovation: FloatArray, inverse: FloatArray, step: Step, scale: BodyScale
    ) -> None:
        """Raise the level where innovations keep their direction, and with the speed."""
        config, bias = self.config, self.bias
        bias *= 1.0 - step.bias_share
        innovation *= (np.sqrt(inverse) * step.bias_share)[..., None]
        bias += innovation
        squared = bias * bias
        evidence = squared[..., 0] + squared[..., 1]
        evidence *= step.bias_scale * config.bias_slope
        evidence -= config.still_bias * config.bias_slope
        np.minimum(evidence, 1.0, out=evidence)
        speed = np.hypot(self.state[1, ..., 0], self.state[1, ..., 1])
        speed *= scale.per_size
        fast = speed * config.fast_slope
        fast += 1.0 - config.moving_speed * config.fast_slope
        speed *= config.speed_slope
        speed -= config.still_speed * config.speed_slope
        np.minimum(speed, fast, out=speed)
        level = self.level
        level *= step.level_decay
        np.maximum(level, evidence, out=level)
        np.maximum(level, speed, out=level)
        np.minimum(level, config.max_level, out=level)
        self._rest(step)

    def _rest(self, step: Step) -> None:
        """Let velocity and acceleration fade where the point rests."""
        # Three unknowns settle slowly; at rest two of them are known to be small.
        keep = self.level * step.rest_share
        keep += 1.0 - step.rest_share
        np.minimum(keep, 1.0, out=keep)
        self.state[1:] *= keep[..., None]
        self.covariance[1:3] *= keep
        keep *= keep
        self.covariance[3:] *= keep
