"""Rendered clips on disk, with their truth beside them."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pose_analyzer.errors import DependencyMissingError, VideoWriteError
from pose_analyzer.synthetic.body import Athlete
from pose_analyzer.synthetic.camera import Camera
from pose_analyzer.synthetic.faults import Fault
from pose_analyzer.synthetic.look import LOOKS
from pose_analyzer.synthetic.motion import MotionSpec
from pose_analyzer.synthetic.render import RenderConfig, Renderer
from pose_analyzer.synthetic.schedule import Tempo
from pose_analyzer.synthetic.truth import Truth, synthesize
from pose_analyzer.synthetic.truth_file import save_truth, truth_paths

if TYPE_CHECKING:
    from av.container import OutputContainer

Progress = Callable[[int, int], None]
"""Called after every frame with frames written and frames in all."""


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """A whole synthetic clip in one value, as the command line asks for it.

    Attributes
    ----------
    exercise, reps, faults, depth, tempo, variation, seed
        As in `MotionSpec`, but at least one repetition. ``seed`` is also that of the sensor noise.
    yaw_deg, pitch_deg, distance_m, fps, width, height
        As in `Camera`. Width and height must be even, as H.264 wants them.
    stature_m : float
        Of the athlete.
    look : int
        Which of `LOOKS` the athlete has.
    bystanders : int
        People in the background, 0 to 4; every second one walks.
    noise, shutter : float
        As in `RenderConfig`.
    """

    exercise: str = "squat"
    reps: int = 10
    faults: tuple[Fault, ...] = ()
    depth: float = 1.0
    tempo: Tempo = field(default_factory=Tempo)
    variation: float = 0.03
    seed: int = 0
    yaw_deg: float = 90.0
    pitch_deg: float = 0.0
    distance_m: float = 4.0
    fps: float = 30.0
    width: int = 1920
    height: int = 1080
    stature_m: float = 1.75
    look: int = 0
    bystanders: int = 0
    noise: float = 1.5
    shutter: float = 0.4

    def __post_init__(self) -> None:
        if self.reps < 1:
            raise ValueError(f"reps must be at least 1, got {self.reps}")
        if not 0 <= self.bystanders <= 4:
            raise ValueError(f"bystanders must be in [0, 4], got {self.bystanders}")
        if not 0 <= self.look < len(LOOKS):
            raise ValueError(f"look must be in [0, {len(LOOKS) - 1}], got {self.look}")
        _require_even(self.width, self.height)

    @property
    def motion(self) -> MotionSpec:
        """What the athlete does."""
        return MotionSpec(
            self.exercise,
            self.reps,
            self.tempo,
            self.depth,
            self.variation,
            self.faults,
            self.seed,
        )

    @property
    def camera(self) -> Camera:
        """What it is seen with."""
        return Camera(
            self.yaw_deg, self.pitch_deg, self.distance_m, self.width, self.height, self.fps
        )


def synthesize_clip(spec: ClipSpec, out: Path, progress: Progress | None = None) -> Truth:
    """Render a clip with its truth beside it, and return the truth.

    Parameters
    ----------
    spec : ClipSpec
        What to render.
    out : Path
        The ``.mp4`` to write; ``.truth.npz`` and ``.truth.json`` come beside it. Folders that
        are missing are made.
    progress : callable, optional
        Told how far it is.

    Raises
    ------
    ValueError
        If the specification is impossible; the message says what is allowed.
    VideoWriteError
        If the clip cannot be written. Nothing half-written stays, and what was there before does.
    """
    camera = spec.camera
    athlete = Athlete(spec.stature_m, look=LOOKS[spec.look])
    truth = synthesize(athlete, spec.motion, camera)
    people = [_bystander(spec, camera, number) for number in range(spec.bystanders)]
    renderer = Renderer(camera, people, RenderConfig(spec.noise, spec.shutter, spec.seed))
    write_clip(out, truth, renderer, progress)
    return truth


def write_clip(
    out: Path, truth: Truth, renderer: Renderer, progress: Progress | None = None
) -> None:
    """Write a clip that plays in a browser (H.264, yuv420p, fast start), and its truth.

    The files are written in a folder beside ``out`` and move to their places together when all
    are complete.

    Raises
    ------
    ValueError
        If the picture's width or height is odd.
    DependencyMissingError
        If PyAV is not installed.
    VideoWriteError
        If a file cannot be written.
    """
    _require_even(*renderer.camera.size)
    try:
        import av
    except ImportError as exc:
        raise DependencyMissingError(
            "writing a clip needs PyAV; install it with: pip install 'pose-analyzer[video]'"
        ) from exc
    options = {"movflags": "faststart"}
    try:
        with _staging(out) as folder:
            clip = folder / out.name
            with av.open(str(clip), "w", format="mp4", options=options) as file:
                _encode(file, truth, renderer, progress)
            save_truth(truth, clip)
            for made, place in zip(_files(clip), _files(out), strict=True):
                made.replace(place)
    except (OSError, av.FFmpegError) as exc:
        raise VideoWriteError(
            f"cannot write {out}: {exc.strerror or exc}; choose a place that may be written "
            "and has room"
        ) from exc


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Make a folder beside ``out``, with its parents; take away what is empty or unfinished."""
    for path in _files(out):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{path.name or path} is a folder")
    parent = out.absolute().parent
    if parent.is_file():
        raise NotADirectoryError(errno.ENOTDIR, f"{out.parent} is a file, not a folder")
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".synth-", dir=parent, ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)
    finally:
        for made in missing:
            # A folder that came to hold something stays.
            with contextlib.suppress(OSError):
                made.rmdir()


def _files(clip: Path) -> tuple[Path, ...]:
    return (clip, *truth_paths(clip)) if clip.name else (clip,)


def _encode(
    file: OutputContainer, truth: Truth, renderer: Renderer, progress: Progress | None
) -> None:
    import av

    rate = Fraction(truth.camera.fps).limit_denominator(1001)
    stream = file.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height = renderer.camera.size
    stream.pix_fmt = "yuv420p"
    for index, picture in enumerate(renderer.frames(truth)):
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts, frame.time_base = index, 1 / rate
        file.mux(stream.encode(frame))
        if progress is not None:
            progress(index + 1, truth.n_frames)
    file.mux(stream.encode())


def _require_even(width: int, height: int) -> None:
    if width % 2 or height % 2:
        raise ValueError(f"width and height must be even for H.264, got {width} x {height}")


def _bystander(spec: ClipSpec, camera: Camera, number: int) -> Truth:
    """Return somebody behind the athlete, to the right and to the left in turn."""
    right = camera.rotation[0]
    yaw = np.radians(camera.yaw_deg)
    away = np.array([-np.cos(yaw), -np.sin(yaw), 0.0])
    walks = number % 2 == 1
    sign = 1.0 if number in (0, 3) else -1.0
    place = (1.2 + 0.25 * number) * away + sign * (2.0 if walks else 1.5) * right
    # A walker crosses the picture; others look roughly at the athlete.
    facing = -sign * right if walks else -away - 0.5 * sign * right
    motion = MotionSpec(
        "walk" if walks else "stand",
        reps=spec.reps,
        tempo=spec.tempo,
        seed=spec.seed + 1 + number,
        x_m=float(place[0]),
        y_m=float(place[1]),
        heading_deg=float(np.degrees(np.arctan2(facing[1], facing[0]))),
    )
    look = LOOKS[(spec.look + 1 + number) % len(LOOKS)]
    return synthesize(Athlete(1.64 + 0.06 * number, look=look), motion, camera)
