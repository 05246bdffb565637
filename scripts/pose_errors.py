"""What both detector reports share: how wrong a pose is, and where YOLO's weights lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from report_lib import REPOSITORY

from pose_analyzer.skeleton import JOINT_NAMES
from pose_analyzer.types import FloatArray

JOINTS: Final = ("knee", "hip", "elbow", "shoulder", "ankle", "shin_lean", "trunk_lean")
"""Angles by their name without side."""
GOAL_JOINTS: Final = ("knee", "hip", "elbow")
"""The joints that a detector is held to."""
GOAL_SIDE_VIEW: Final = "<= 5"
"""Degrees of mean absolute error that a side view may have."""


def default_data() -> Path:
    """Return where the evaluation data is looked for."""
    named = os.environ.get("POSE_EVAL_DATA", "")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data"


def yolo_weights(data: Path) -> Path | None:
    """Return the YOLO weights of the evaluation data; None if they are not there."""
    path = data / "weights" / "yolo11n-pose.onnx"
    return path if path.is_file() else None


def columns_of(joint: str, sides: tuple[str, ...] = ("left", "right")) -> list[int]:
    """Return the columns of `JOINT_NAMES` that belong to a joint."""
    names = {joint, *(f"{side}_{joint}" for side in sides)}
    return [column for column, name in enumerate(JOINT_NAMES) if name in names]


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """Errors of one kind: absolute mean, p95 and maximum; mean and spread with their sign."""

    n: int
    mean_abs: float
    p95: float
    p99: float
    maximum: float
    bias: float
    std: float

    @classmethod
    def of(cls, errors: FloatArray) -> ErrorStats:
        """Return the statistics of signed errors; what was not measured (NaN) is left out."""
        known = errors[np.isfinite(errors)]
        if known.size == 0:
            return cls(0, *(float("nan"),) * 6)
        absolute = np.abs(known)
        p95, p99 = (float(value) for value in np.percentile(absolute, [95, 99]))
        return cls(
            n=int(known.size),
            mean_abs=float(absolute.mean()),
            p95=p95,
            p99=p99,
            maximum=float(absolute.max()),
            bias=float(known.mean()),
            std=float(known.std()),
        )


def joint_errors(errors_deg: FloatArray, joint: str) -> ErrorStats:
    """Return the statistics of one joint, both sides together, from errors of shape (..., J)."""
    return ErrorStats.of(errors_deg[..., columns_of(joint)])
