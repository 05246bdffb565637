"""The noise of a real detector, measured on rendered clips and drawn anew for any motion.

A detector's error is no white noise: most of it depends on exercise, posture and view and hardly
moves within a repetition, a small part trembles from frame to frame, and keypoints err together.
So what was measured (``scripts/measure_detector_noise.py``) is kept as whole sequences, and drawn
as such: the slow part follows the travel of the new motion as it followed the old one's, the fast
part is played on from a random place in the same phase.
"""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

from pose_analyzer.skeleton import MIRROR, N_KEYPOINTS
from pose_analyzer.synthetic.schedule import PHASES
from pose_analyzer.synthetic.truth import Truth
from pose_analyzer.types import BoolArray, FloatArray, IntArray

REST, AWAY, TURN, BACK = range(len(PHASES))

_STEPS: Final = {"shift": 2e-4, "world": 3e-3, "confidence": 1 / 255}
"""Resolution of the stored values: statures for the first two."""
_CHANNELS: Final = 6
"""Picture x y, metric x y z, confidence, in this order."""
_SLOW_FRAMES: Final = 3.0
"""Standard deviation of the Gaussian that parts slow from fast: 0.1 s at 30 frames a second
(chosen by us: the part that is left has lost its memory after three frames, see
reports/detector_noise.md)."""
_GRID: Final = 17
_NEAR_YAW_DEG: Final = 20.0
"""Clips within this of the yaw serve too (chosen by us: they were measured every 15 degrees)."""
_CHUNK: Final = 30
_MIN_POOL: Final = 20
"""Frames of fast noise: at most played in one go, at least chosen from."""


@dataclass(frozen=True, slots=True)
class NoiseClip:
    """A detector's error over one rendered clip.

    Attributes
    ----------
    exercise : str
        What the athlete did.
    yaw_deg : float
        Of the camera, in [0, 90].
    travel : array, shape (T,)
        As in `Truth`, with ``phase`` and ``attempt``.
    phase, attempt : int array, shape (T,)
        As in `Truth`.
    error : array, shape (T, K, 6)
        In statures: found minus true position in the picture (x, y) and as metric landmark
        (x, y, z from the middle of the hips); then the confidence itself. NaN where ``missed``.
    missed : bool array, shape (T,)
        Frames in which nobody was found.
    """

    exercise: str
    yaw_deg: float
    travel: FloatArray
    phase: IntArray
    attempt: IntArray
    error: FloatArray
    missed: BoolArray


@dataclass(frozen=True, slots=True)
class NoiseDraw:
    """Noise for one motion.

    Attributes
    ----------
    shift_px : array, shape (T, K, 2)
        To add to the true keypoints.
    shift_m : array, shape (T, K, 3)
        To add to the true metric landmarks in camera axes.
    confidence : array, shape (T, K)
        In [0, 1].
    missed : bool array, shape (T,)
        Frames in which nobody is found.
    """

    shift_px: FloatArray
    shift_m: FloatArray
    confidence: FloatArray
    missed: BoolArray


@dataclass(frozen=True, slots=True)
class _Rep:
    """A measured repetition: its slow error by travel, and where its fast error lies.

    ``slow`` has shape (2, G, K, 6): on the way away and back, at G shares of ``depth``.
    ``pools`` are the first and last row of each phase in the fast error of all clips.
    """

    slow: FloatArray
    depth: float
    pools: tuple[tuple[int, int], ...]

    def at(self, travel: FloatArray, way: int) -> FloatArray:
        """Return the slow error at each travel, shape (T, K, 6); beyond the depth, at the depth."""
        place = np.clip(travel / self.depth, 0.0, 1.0) * (_GRID - 1)
        below = np.minimum(place.astype(np.intp), _GRID - 2)
        share = (place - below)[:, None, None]
        table = self.slow[way]
        return np.asarray((1.0 - share) * table[below] + share * table[below + 1])


class MeasuredNoise:
    """What a detector's error was on rendered clips, to be drawn from.

    Parameters
    ----------
    clips : sequence of NoiseClip
        At least one, each with a whole repetition.

    Raises
    ------
    ValueError
        If no clip holds a whole repetition.

    Examples
    --------
    >>> from pose_analyzer.synthetic import synthesize
    >>> truth = synthesize()
    >>> noise = MeasuredNoise.load("mediapipe")
    >>> noise.draw(truth, np.random.default_rng(0)).shift_px.shape == truth.keypoints.shape
    True
    """

    def __init__(self, clips: tuple[NoiseClip, ...]) -> None:
        self.clips = clips
        self._fast = np.empty((sum(clip.travel.size for clip in clips), N_KEYPOINTS, _CHANNELS))
        self._missed = np.concatenate([clip.missed for clip in clips])
        self._reps: dict[tuple[str, float], list[tuple[_Rep, ...]]] = {}
        start = 0
        for clip in clips:
            error = _bridged(clip.error)
            slow = gaussian_filter1d(error, _SLOW_FRAMES, axis=0, mode="nearest")
            self._fast[start : start + error.shape[0]] = error - slow
            reps = tuple(_reps_of(clip, slow, start))
            start += error.shape[0]
            if reps:
                self._reps.setdefault((clip.exercise, clip.yaw_deg), []).append(reps)
        if not self._reps:
            raise ValueError("no clip of the measured noise holds a whole repetition")

    @classmethod
    def load(cls, detector: str = "mediapipe") -> MeasuredNoise:
        """Return the noise of a detector that was measured for this package.

        Raises
        ------
        ValueError
            If none was; the message names those that were.
        """
        return _load(detector)

    def draw(self, truth: Truth, rng: np.random.Generator) -> NoiseDraw:
        """Return noise for a motion; another state of ``rng`` gives other noise.

        Parameters
        ----------
        truth : Truth
            Of any frame rate, but the fast part trembles as it does at 30 frames a second.
        rng : numpy.random.Generator
            Source of all chance.

        Notes
        -----
        The clip drawn from is one of the same exercise and a yaw nearby; an exercise that was
        not measured takes any. From the right side the error is mirrored, and a view from behind
        takes that from in front, with x reversed. So from the right the noise of a lunge, which the
        left leg leads, is that of a leg that is not there: take such exercises from the left.
        """
        yaw_deg = (truth.camera.yaw_deg - truth.motion.heading_deg + 180.0) % 360.0 - 180.0
        reps = self._choose(truth.exercise, yaw_deg, rng)
        error, rows = self._sequence(truth, reps, rng)
        if yaw_deg < 0.0:
            error = error[:, MIRROR]
        # Behind the shoulders' line the picture runs the other way; so it does from the right.
        if (abs(yaw_deg) > 90.0) != (yaw_deg < 0.0):
            error[..., [0, 2]] *= -1.0
        return NoiseDraw(
            shift_px=error[..., :2] * truth.stature_px[:, None, None],
            shift_m=error[..., 2:5] * truth.athlete.stature_m,
            confidence=np.clip(error[..., 5], 0.0, 1.0),
            missed=self._missed[rows],
        )

    def _choose(self, exercise: str, yaw_deg: float, rng: np.random.Generator) -> tuple[_Rep, ...]:
        """Return the repetitions of one clip of this exercise and about this yaw."""
        known = [key for key in self._reps if key[0] == exercise] or list(self._reps)
        turned = abs(yaw_deg) if abs(yaw_deg) <= 90.0 else 180.0 - abs(yaw_deg)
        nearest = min(abs(yaw - turned) for _, yaw in known)
        limit = max(nearest, _NEAR_YAW_DEG)
        clips = [reps for key in known if abs(key[1] - turned) <= limit for reps in self._reps[key]]
        return clips[rng.integers(len(clips))]

    def _sequence(
        self, truth: Truth, reps: tuple[_Rep, ...], rng: np.random.Generator
    ) -> tuple[FloatArray, IntArray]:
        """Return error and confidence, shape (T, K, 6), and the rows of the fast part, (T,)."""
        n_attempts = int(truth.attempt.max(initial=0))
        # Row 0 stands for before the first, the last for after the last.
        chosen = [reps[index] for index in rng.integers(len(reps), size=n_attempts + 2)]
        error = np.empty((truth.n_frames, N_KEYPOINTS, _CHANNELS))
        rows = np.empty(truth.n_frames, dtype=np.intp)
        attempt = 0
        for run in _runs(truth):
            phase = int(truth.phase[run.start])
            attempt = max(attempt, int(truth.attempt[run.start]))
            rep = chosen[attempt]
            then = chosen[attempt + 1] if phase == REST else rep
            error[run] = _slow_part(truth.travel[run], phase, rep if attempt else then, then)
            for start in range(run.start, run.stop, _CHUNK):
                stop = min(start + _CHUNK, run.stop)
                pool = reps[rng.integers(len(reps))].pools[phase]
                rows[start:stop] = _to_and_fro(pool, stop - start, rng)
        error += self._fast[rows]
        return error, rows


def pack(clips: tuple[NoiseClip, ...], file: Path) -> None:
    """Write measured clips compactly: rounded, and as differences from frame to frame."""
    error = np.concatenate([_bridged(clip.error) for clip in clips])
    parts = {"shift": error[..., :2], "world": error[..., 2:5], "confidence": error[..., 5:]}
    steps = {name: np.round(part / _STEPS[name]).astype(np.int64) for name, part in parts.items()}
    with file.open("wb") as stream:
        np.savez_compressed(
            stream,
            exercise=np.array([clip.exercise for clip in clips]),
            yaw_deg=np.array([clip.yaw_deg for clip in clips]),
            frames=np.array([clip.travel.size for clip in clips]),
            travel=np.concatenate([clip.travel for clip in clips]).astype(np.float32),
            phase=np.concatenate([clip.phase for clip in clips]).astype(np.uint8),
            attempt=np.concatenate([clip.attempt for clip in clips]).astype(np.uint8),
            missed=np.concatenate([clip.missed for clip in clips]),
            # Transposed: neighbours in the file are then neighbours in time, and compress well.
            **{
                name: np.ascontiguousarray(np.diff(part, axis=0, prepend=0).astype(np.int16).T)
                for name, part in steps.items()
            },
        )


def unpack(file: Path) -> tuple[NoiseClip, ...]:
    """Return the clips that `pack` wrote."""
    with np.load(file, allow_pickle=False) as stored:
        data = dict(stored)
    error = np.concatenate(
        [np.cumsum(data[name].T, axis=0, dtype=np.int64) * step for name, step in _STEPS.items()],
        axis=-1,
    )
    error[data["missed"]] = np.nan
    ends = np.cumsum(data["frames"])
    return tuple(
        NoiseClip(
            str(exercise),
            float(yaw),
            data["travel"][end - n : end].astype(np.float64),
            data["phase"][end - n : end].astype(np.intp),
            data["attempt"][end - n : end].astype(np.intp),
            error[end - n : end],
            data["missed"][end - n : end],
        )
        for exercise, yaw, n, end in zip(
            data["exercise"], data["yaw_deg"], data["frames"], ends, strict=True
        )
    )


@cache
def _load(detector: str) -> MeasuredNoise:
    folder = Path(str(importlib.resources.files("pose_analyzer"))) / "_detector_noise"
    file = folder / f"{detector}.npz"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.npz")))
        raise ValueError(f"the noise of {detector!r} was not measured; there is: {known}")
    return MeasuredNoise(unpack(file))


def _bridged(error: FloatArray) -> FloatArray:
    """Return the error with missed frames filled from their neighbours in time."""
    seen = np.flatnonzero(~np.isnan(error[:, 0, 0]))
    if seen.size == error.shape[0]:
        return error
    place = np.interp(np.arange(error.shape[0]), seen, np.arange(seen.size))
    return _between(error[seen], place)


def _between(rows: FloatArray, place: FloatArray) -> FloatArray:
    """Return rows at fractional places."""
    below = place.astype(np.intp)
    above = np.minimum(below + 1, rows.shape[0] - 1)
    share = (place - below)[:, None, None]
    return np.asarray((1.0 - share) * rows[below] + share * rows[above])


def _reps_of(clip: NoiseClip, slow: FloatArray, offset: int) -> Iterator[_Rep]:
    """Yield the whole repetitions of a clip."""
    n_frames = clip.travel.size
    for attempt in range(1, int(clip.attempt.max(initial=0)) + 1):
        rows = {
            code: np.flatnonzero((clip.attempt == attempt) & (clip.phase == code))
            for code in (AWAY, TURN, BACK)
        }
        if min(rows[AWAY].size, rows[BACK].size) < 2:
            continue
        depth = float(clip.travel[rows[AWAY].min() : rows[BACK].max() + 1].max())
        grid = np.linspace(0.0, depth, _GRID)
        back = rows[BACK][::-1]
        ways = [
            _between(slow, np.interp(grid, clip.travel[way], way.astype(np.float64)))
            for way in (rows[AWAY], back)
        ]
        first, last = rows[AWAY][0], rows[BACK][-1]
        spans = (
            (first - _MIN_POOL, first),
            (first, rows[AWAY][-1]),
            (rows[AWAY][-1], rows[BACK][0]),
            (rows[BACK][0], last),
        )
        pools = tuple(_pool(span, n_frames, offset) for span in spans)
        yield _Rep(np.stack(ways), depth, pools)


def _pool(span: tuple[int, int], n_frames: int, offset: int) -> tuple[int, int]:
    """Return first and last row of a phase, widened to enough frames to choose from."""
    start, stop = int(span[0]), int(span[1])
    missing = max(_MIN_POOL - (stop - start), 0)
    start = max(start - missing // 2, 0)
    stop = min(max(stop + missing // 2, start + _MIN_POOL), n_frames - 1)
    return offset + start, offset + stop


def _runs(truth: Truth) -> Iterator[slice]:
    """Yield the stretches of one phase of one repetition."""
    changed = (np.diff(truth.phase) != 0) | (np.diff(truth.attempt) != 0)
    bounds = [0, *(np.flatnonzero(changed) + 1).tolist(), truth.n_frames]
    for start, stop in itertools.pairwise(bounds):
        yield slice(start, stop)


def _slow_part(travel: FloatArray, phase: int, rep: _Rep, then: _Rep) -> FloatArray:
    """Return the slow error over one stretch; at rest and at the turn it goes over to the next."""
    if phase == AWAY:
        return rep.at(travel, 0)
    if phase == BACK:
        return rep.at(travel, 1)
    share = ((np.arange(travel.size) + 0.5) / travel.size)[:, None, None]
    before, after = (0, 1) if phase == TURN else (1, 0)
    return np.asarray((1.0 - share) * rep.at(travel, before) + share * then.at(travel, after))


def _to_and_fro(pool: tuple[int, int], n: int, rng: np.random.Generator) -> IntArray:
    """Return ``n`` rows that run through a pool from a random place, turning at its ends."""
    first, last = pool
    length = max(last - first, 1)
    steps = (rng.integers(2 * length) + np.arange(n)) % (2 * length)
    return np.asarray(first + np.minimum(steps, 2 * length - steps), dtype=np.intp)
