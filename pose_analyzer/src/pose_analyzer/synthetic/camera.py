"""A pinhole camera that looks at the athlete.

World axes as in `body`: x the way the athlete faces, y to the athlete's left, z up, metres.
Image axes: x right, y down, pixels, the middle of the first pixel at (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.types import FloatArray

LARGEST_PX: Final = (7680, 4320)
"""The largest picture, lying or standing: 8K UHD, the most that level 6 of H.264 encodes."""


@dataclass(frozen=True, slots=True)
class Camera:
    """An ideal camera on a sphere about a point above the origin.

    Attributes
    ----------
    yaw_deg : float
        0 sees the athlete's front, 90 the athlete's left side, 180 the back, -90 the right side.
    pitch_deg : float
        How far the camera looks down (and stands higher for it), in (-89, 89).
    distance_m : float
        From the point it looks at.
    width, height : int
        Pixels, at least 16 and at most `LARGEST_PX`.
    fps : float
        Frames a second.
    fov_deg : float
        Angle of view along the longer side of the picture. The default is that of a phone's main
        camera when it films.
    aim_height_m : float
        Height above the floor of the point it looks at.
    """

    yaw_deg: float = 90.0
    pitch_deg: float = 0.0
    distance_m: float = 4.0
    width: int = 1920
    height: int = 1080
    fps: float = 30.0
    fov_deg: float = 60.0
    aim_height_m: float = 0.95

    def __post_init__(self) -> None:
        for name in ("yaw_deg", "pitch_deg", "distance_m", "fps", "aim_height_m"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not -89.0 < self.pitch_deg < 89.0:
            raise ValueError(f"pitch_deg must be in (-89, 89), got {self.pitch_deg}")
        if self.distance_m <= 0.0:
            raise ValueError(f"distance_m must be positive, got {self.distance_m}")
        if min(self.width, self.height) < 16:
            raise ValueError(f"the picture must be at least 16 pixels, got {self.size}")
        if max(self.size) > max(LARGEST_PX) or min(self.size) > min(LARGEST_PX):
            raise ValueError(
                f"the picture must be at most {LARGEST_PX[0]} x {LARGEST_PX[1]} pixels, "
                f"got {self.width} x {self.height}"
            )
        if self.fps <= 0.0:
            raise ValueError(f"fps must be positive, got {self.fps}")
        if not 5.0 <= self.fov_deg <= 150.0:
            raise ValueError(f"fov_deg must be in [5, 150], got {self.fov_deg}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the same along both axes."""
        longer = max(self.width, self.height)
        return float(0.5 * longer / np.tan(np.radians(self.fov_deg) / 2.0))

    @property
    def centre_px(self) -> FloatArray:
        """The principal point, shape (2,)."""
        return np.array([0.5 * (self.width - 1), 0.5 * (self.height - 1)])

    @property
    def rotation(self) -> FloatArray:
        """World to camera, shape (3, 3): rows are image right, image down and away from it."""
        yaw, pitch = np.radians(self.yaw_deg), np.radians(self.pitch_deg)
        cosine, sine = np.cos(yaw), np.sin(yaw)
        away = np.array([-cosine * np.cos(pitch), -sine * np.cos(pitch), -np.sin(pitch)])
        right = np.array([-sine, cosine, 0.0])
        return np.stack([right, np.cross(away, right), away])

    @property
    def position_m(self) -> FloatArray:
        """Where the camera stands, shape (3,)."""
        aim = np.array([0.0, 0.0, self.aim_height_m])
        return np.asarray(aim - self.distance_m * self.rotation[2])

    def to_camera(self, points_m: FloatArray) -> FloatArray:
        """Return world points in camera axes, shape (..., 3): right, down, away, in metres."""
        return np.asarray((points_m - self.position_m) @ self.rotation.T)

    def project(self, points_m: FloatArray) -> FloatArray:
        """Return where world points appear, shape (..., 2) in pixels.

        NaN for points that are not at least 5 cm in front of the camera.
        """
        seen = self.to_camera(points_m)
        depth = np.where(seen[..., 2:] > 0.05, seen[..., 2:], np.nan)
        return np.asarray(self.focal_px * seen[..., :2] / depth + self.centre_px)
