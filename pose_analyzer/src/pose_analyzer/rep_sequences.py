"""Repetitions as sequences of any channels: checked, named in messages, and of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pose_analyzer.anomaly_model import N_PHASES
from pose_analyzer.time_warping import phase_normalised
from pose_analyzer.types import FloatArray

_MOST: Final = 1e100
"""Its square must not overflow."""


def named(kind: str, number: int) -> str:
    """Return what to call the n-th repetition of a kind in a message."""
    return f"{kind} repetition {number}"


def normalised(sequence: FloatArray, n_channels: int, name: str) -> FloatArray:
    """Return a repetition as it is compared, shape (N_PHASES, D); see `phase_normalised`.

    Raises
    ------
    ValueError
        If it is no array of numbers, has another number of columns, fewer than two rows, or an
        infinite value or one above 1e100.
    """
    try:
        values = np.asarray(sequence, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{name} is no array of numbers: {exc}") from exc
    if values.ndim != 2 or values.shape[1] != n_channels or len(values) < 2:
        raise ValueError(f"{name} needs shape (T >= 2, {n_channels}), got {values.shape}")
    if (np.abs(values) > _MOST).any():
        raise ValueError(
            f"{name} may hold NaN where not measured, but no infinite value and none above "
            f"{_MOST:g}"
        )
    return phase_normalised(values, N_PHASES)


def require_different(references: Sequence[FloatArray], others: Sequence[FloatArray]) -> None:
    """Raise ValueError if a calibration repetition is a reference: it would be like itself."""
    known = {one.tobytes(): number for number, one in enumerate(references, start=1)}
    for number, one in enumerate(others, start=1):
        if not np.isnan(one).all() and one.tobytes() in known:
            raise ValueError(
                f"{named('calibration', number)} is {named('reference', known[one.tobytes()])}; "
                "calibrate with other ones"
            )
