"""Pictures of synthetic people: shaded bodies in a room, with a camera's noise and motion blur."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pose_analyzer.synthetic.body import POINT_INDEX
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.mesh import Flesh
from pose_analyzer.synthetic.room import draw_room
from pose_analyzer.synthetic.shading import OVERSAMPLE, Shaded, fill
from pose_analyzer.synthetic.truth import Truth
from pose_analyzer.types import FloatArray, ImageArray

_SHADOW_SCALE = 4
_MAX_EXPOSURES = 5
_SHADOW_BONES = (
    ("mid_hip", "mid_shoulder", 0.075),
    ("head", "head", 0.05),
    *(
        (f"{side}_{first}", f"{side}_{second}", radius)
        for side in ("left", "right")
        for first, second, radius in (
            ("hip", "knee", 0.045),
            ("knee", "ankle", 0.030),
            ("heel", "big_toe", 0.030),
            ("shoulder", "elbow", 0.03),
            ("elbow", "hand", 0.025),
        )
    ),
)


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """What a camera adds to a perfect picture.

    Attributes
    ----------
    noise : float
        Standard deviation of the sensor's noise in grey levels, 0 to switch it off.
    shutter : float
        Share of the time between frames in which light is gathered, in [0, 1]; 0 freezes motion.
        The exposure is centred on the frame's time, so blur does not move the truth.
    seed : int
        Of the noise.
    """

    noise: float = 1.5
    shutter: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise < 0.0:
            raise ValueError(f"noise must not be negative, got {self.noise}")
        if not 0.0 <= self.shutter <= 1.0:
            raise ValueError(f"shutter must be in [0, 1], got {self.shutter}")


class Renderer:
    """Draw an athlete, and people around, as one camera sees them.

    Parameters
    ----------
    camera : Camera
        Every truth that is drawn must have been made with it.
    people : sequence of Truth
        People in the background. Whose motion ends before the athlete's stays in the last pose.
    config : RenderConfig, optional
        Noise and blur.

    Notes
    -----
    Bodies are quadrilaterals, drawn from far to near (painter's algorithm) at twice the size and
    averaged down; only the rectangle around a body is touched.
    """

    def __init__(
        self, camera: Camera, people: Sequence[Truth] = (), config: RenderConfig | None = None
    ) -> None:
        for person in people:
            _require_same_camera(person, camera)
        self.camera = camera
        self._people = tuple(people)
        self._config = RenderConfig() if config is None else config
        rng = np.random.default_rng(self._config.seed)
        self._room = draw_room(camera)
        self._grain = _Grain(camera, self._config.noise, rng)

    def frames(self, truth: Truth) -> Iterator[ImageArray]:
        """Yield the picture of every frame, BGR, shape (H, W, 3).

        Raises
        ------
        ValueError
            If the truth was made with another camera.
        """
        _require_same_camera(truth, self.camera)
        bodies = [_Body(person, self.camera) for person in (truth, *self._people)]
        for index in range(truth.n_frames):
            yield self._frame(bodies, index)

    def frame(self, truth: Truth, index: int) -> ImageArray:
        """Return the picture of one frame, as `frames` yields it."""
        _require_same_camera(truth, self.camera)
        bodies = [_Body(person, self.camera) for person in (truth, *self._people)]
        return self._frame(bodies, index)

    def _frame(self, bodies: Sequence[_Body], index: int) -> ImageArray:
        picture = self._room.copy()
        for body in bodies:
            body.cast_shadow(picture, index)
        for body in sorted(bodies, key=lambda one: -one.depth_m(index)):
            body.draw(picture, index, self._config.shutter)
        return self._grain.add_to(picture, index)


def _require_same_camera(truth: Truth, camera: Camera) -> None:
    if truth.camera != camera:
        raise ValueError(
            f"the truth was made with {truth.camera}, the renderer has {camera}; use one camera"
        )


class _Body:
    """One person of a clip, ready to be drawn."""

    def __init__(self, truth: Truth, camera: Camera) -> None:
        self._camera = camera
        self._points = truth.points_m
        self._stature = truth.athlete.stature_m
        self._flesh = Flesh(truth.athlete)
        depth = camera.to_camera(truth.points_m)[..., 2]
        self._depth = depth[:, POINT_INDEX["mid_hip"]]
        # A body that reaches the lens cannot be projected whole; it is not drawn.
        self._is_in_front = depth.min(axis=1) > 0.3

    def _row(self, index: int) -> int:
        return min(index, self._points.shape[0] - 1)

    def depth_m(self, index: int) -> float:
        """Return the distance along the optical axis, for ordering people."""
        return float(self._depth[self._row(index)])

    def draw(self, picture: ImageArray, index: int, shutter: float) -> None:
        """Draw the person into the picture."""
        row = self._row(index)
        if not self._is_in_front[row]:
            return
        poses = self._exposures(row, shutter)
        drawn = [Shaded.of(self._flesh, points, self._camera, self._stature) for points in poses]
        low = np.min([one.low for one in drawn], axis=0)
        high = np.max([one.high for one in drawn], axis=0)
        x0, y0 = (int(value) for value in np.maximum(np.floor(low) - 1, 0))
        x1, y1 = (int(value) for value in np.minimum(np.ceil(high) + 2, self._camera.size))
        if x1 <= x0 or y1 <= y0:
            return
        region = picture[y0:y1, x0:x1]
        large = region.repeat(OVERSAMPLE, axis=0).repeat(OVERSAMPLE, axis=1)
        layers = [fill(large.copy(), one, (x0, y0)) for one in drawn[1:]]
        # Averages are taken in place, one layer at a time, so that all count the same.
        fill(large, drawn[0], (x0, y0))
        for count, layer in enumerate(layers, start=2):
            cv2.addWeighted(large, 1.0 - 1.0 / count, layer, 1.0 / count, 0.0, dst=large)
        cv2.resize(large, (x1 - x0, y1 - y0), dst=region, interpolation=cv2.INTER_AREA)

    def _exposures(self, row: int, shutter: float) -> list[FloatArray]:
        """Return the poses during one exposure, as many as the motion needs."""
        here = self._points[row]
        before = self._points[max(row - 1, 0)]
        after = self._points[min(row + 1, self._points.shape[0] - 1)]
        pace = self._camera.project(np.stack([before, after]))
        way_px = 0.5 * shutter * np.nanmax(np.linalg.norm(pace[1] - pace[0], axis=-1))
        count = int(np.clip(np.ceil(way_px / 3.0), 1, _MAX_EXPOSURES))
        if count == 1:
            return [here]
        moments = shutter * (np.arange(count) - 0.5 * (count - 1)) / count
        return [
            here + (moment * (after - here) if moment > 0.0 else -moment * (before - here))
            for moment in moments
        ]

    def cast_shadow(self, picture: ImageArray, index: int) -> None:
        """Darken the floor under the person, most where the body is near to it."""
        row = self._row(index)
        if not self._is_in_front[row]:
            return
        points = self._points[row]
        angle = np.arange(12) * (np.pi / 6.0)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        patches = []
        for first, second, radius in _SHADOW_BONES:
            ends = points[[POINT_INDEX[first], POINT_INDEX[second]]]
            height = float(ends[:, 2].mean()) / self._stature
            spread = (radius + 0.12 * height) * self._stature
            ground = np.zeros((24, 3))
            ground[:, :2] = (ends[:, None, :2] + spread * circle).reshape(-1, 2)
            strength = 150.0 * np.exp(-height / 0.14) + 14.0
            patches.append((strength, self._camera.project(ground)))
        patches.sort(key=lambda patch: patch[0])
        softness_px = 0.024 * self._camera.focal_px / self._depth[row]
        _darken(picture, patches, softness_px)


def _darken(
    picture: ImageArray, patches: Sequence[tuple[float, FloatArray]], softness_px: float
) -> None:
    """Multiply a picture by soft dark patches, given with their strength from weak to strong."""
    corners = np.concatenate([patch for _, patch in patches])
    if np.isnan(corners).any():
        return
    margin = np.ceil(2.5 * softness_px)
    limit = np.array([picture.shape[1], picture.shape[0]])
    x0, y0 = np.clip(np.floor(corners.min(axis=0)) - margin, 0, limit).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)) + margin, 0, limit).astype(int)
    if x1 - x0 < _SHADOW_SCALE or y1 - y0 < _SHADOW_SCALE:
        return
    size = ((x1 - x0) // _SHADOW_SCALE + 1, (y1 - y0) // _SHADOW_SCALE + 1)
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    for strength, patch in patches:
        outline = np.round((patch - [x0, y0]) / _SHADOW_SCALE).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(outline), (strength,))
    cv2.GaussianBlur(mask, (0, 0), max(softness_px / _SHADOW_SCALE, 0.3), dst=mask)
    light = cv2.resize(255 - mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    region = picture[y0:y1, x0:x1]
    cv2.multiply(region, cv2.merge([light, light, light]), dst=region, scale=1.0 / 255.0)


class _Grain:
    """Sensor noise, cut from one large sheet at a new place for every frame."""

    _MARGIN = 64

    def __init__(self, camera: Camera, sigma: float, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(1 << 31))
        self._size = camera.size
        self._brighter: ImageArray | None = None
        self._darker: ImageArray | None = None
        if sigma > 0.0:
            wide = 2 * self._MARGIN
            shape = (camera.height + wide, camera.width + wide)
            sheet = np.round(sigma * rng.standard_normal(shape, dtype=np.float32))
            # Two unsigned sheets: saturating byte arithmetic is several times faster than mixing
            # types. The channels are the same sheet, shifted.
            self._brighter = self._shifted(np.clip(sheet, 0, 255).astype(np.uint8))
            self._darker = self._shifted(np.clip(-sheet, 0, 255).astype(np.uint8))

    def _shifted(self, sheet: ImageArray) -> ImageArray:
        """Return three channels cut from one sheet, far enough apart to look independent."""
        height, width = sheet.shape[0] - self._MARGIN, sheet.shape[1] - self._MARGIN
        places = ((0, 0), (29, self._MARGIN), (self._MARGIN, 17))
        channels = cv2.merge([sheet[y : y + height, x : x + width] for y, x in places])
        return np.asarray(channels, dtype=np.uint8)

    def add_to(self, picture: ImageArray, index: int) -> ImageArray:
        """Add the noise of one frame in place."""
        if self._brighter is None or self._darker is None:
            return picture
        rng = np.random.default_rng((self._seed, index))
        x, y = (int(value) for value in rng.integers(0, self._MARGIN, 2))
        width, height = self._size
        cut = np.s_[y : y + height, x : x + width]
        cv2.add(picture, self._brighter[cut], dst=picture)
        cv2.subtract(picture, self._darker[cut], dst=picture)
        return picture
