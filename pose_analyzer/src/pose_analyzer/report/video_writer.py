"""Writes H.264 video that plays in a browser, with the times that the pictures came with.

The cues may be spoken beside it, as AAC.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pose_analyzer.errors import DependencyMissingError, SpeechError, VideoWriteError
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.report.speech_track import LATEST_S, Int16Array, SpeechTrack
from pose_analyzer.speech import SAMPLE_RATE_HZ, Voice
from pose_analyzer.types import ClipSummary, Cue, Frame, FrameAnalysis, ImageArray

if TYPE_CHECKING:
    from types import TracebackType

    from av import VideoFrame
    from av.audio.stream import AudioStream

PRESET: Final = "veryfast"
"""Speed setting of x264, chosen by measurement, see reports/analyze_speed."""
QUALITY: Final = 23
"""Constant rate factor of x264; its own default."""
_TIME_BASE: Final = Fraction(1, 90_000)
"""The clock of MPEG systems: fine enough for any frame rate."""
_SOUND_BITS_S: Final = 64_000
"""Transparent for one voice."""
_SMPTE170M: Final = 6
_BT709: Final = 1
_LIMITED_RANGE: Final = 1


class VideoWriter:
    """An MP4 file under construction; it appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        Where the file shall stand. An older file of that name is replaced at the end.
    width, height : int
        Pixels of the pictures. H.264 wants even sizes: an odd edge is repeated once.
    fps : float
        Nominal rate; the times given to `write` are what counts.
    preset : str
        Speed setting of x264, `PRESET` by default.

    Raises
    ------
    VideoWriteError
        If the file cannot be made or written (also from `write` and `close`).
    DependencyMissingError
        If PyAV or OpenCV is not installed.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: float, *, preset: str = PRESET
    ) -> None:
        if width < 1 or height < 1 or not fps > 0.0:
            raise ValueError(f"width, height and fps must be above 0, got {width}, {height}, {fps}")
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".part")
        self._shape = (height, width, 3)
        self._even_size = (height + height % 2, width + width % 2)
        self._duration = max(1, round(_TIME_BASE.denominator / fps))
        self._last_pts = -1
        self._sound: AudioStream | None = None
        self._n_samples = 0
        self._is_open = False
        try:
            import av
            import cv2
        except ImportError as exc:
            raise DependencyMissingError(
                "writing video needs PyAV and OpenCV: pip install 'pose-analyzer[video]'"
            ) from exc
        self._av = av
        self._cv2 = cv2
        with self._told():
            # The library opens the file only with the first picture: too late to say so.
            self._part.touch()
            self._container = av.open(
                str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
            )
            self._is_open = True
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=max(rate, Fraction(1, 100)))
            self._configure(preset)

    def _configure(self, preset: str) -> None:
        stream, context = self._stream, self._stream.codec_context
        stream.height, stream.width = self._even_size
        stream.pix_fmt = "yuv420p"
        stream.time_base = context.time_base = _TIME_BASE
        context.options = {"preset": preset, "crf": str(QUALITY)}
        # OpenCV makes BT.601 in a third of the time that BT.709 takes elsewhere; players obey.
        context.colorspace, context.color_range = _SMPTE170M, _LIMITED_RANGE
        context.color_primaries = context.color_trc = _BT709

    def add_sound(self, rate_hz: int) -> None:
        """Make room for one channel of sound, before the first picture.

        Parameters
        ----------
        rate_hz : int
            Samples a second of what `write_sound` will get.
        """
        if self._last_pts >= 0 or self._sound is not None:
            raise ValueError("sound can be added once, before the first picture")
        with self._told():
            self._sound = self._container.add_stream("aac", rate=rate_hz, layout="mono")
            self._sound.codec_context.bit_rate = _SOUND_BITS_S

    def write_sound(self, samples: Int16Array) -> None:
        """Append sound; the first sample belongs to time 0.

        Parameters
        ----------
        samples : int16 array, shape (N,)
            May be empty. Should keep step with the pictures: what is ahead waits in memory.
        """
        if self._sound is None or not self._is_open:
            raise ValueError("this video has no sound, or is closed already")
        if not len(samples):
            return
        frame = self._av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = self._sound.rate, self._n_samples
        frame.time_base = Fraction(1, self._sound.rate)
        self._n_samples += len(samples)
        with self._told():
            self._container.mux(self._sound.encode(frame))

    def write(self, image: ImageArray, time_s: float) -> None:
        """Append a picture.

        Parameters
        ----------
        image : uint8 array, shape (H, W, 3)
            BGR, of the size given at the start. Not kept.
        time_s : float
            When it is shown; must increase from picture to picture.
        """
        if image.shape != self._shape:
            raise ValueError(f"the picture must have shape {self._shape}, got {image.shape}")
        if not self._is_open:
            raise ValueError("this video is closed already")
        pts = round(time_s * _TIME_BASE.denominator)
        if pts <= self._last_pts:
            raise ValueError(
                f"time_s must increase by at least {float(_TIME_BASE):.6f}, got {time_s} after "
                f"{self._last_pts / _TIME_BASE.denominator}"
            )
        self._last_pts = pts
        frame = self._encodable(image)
        frame.pts, frame.time_base, frame.duration = pts, _TIME_BASE, self._duration
        with self._told():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Complete the file and give it its name. Safe to call twice, and after `abort`."""
        if not self._is_open:
            return
        with self._told():
            if self._last_pts >= 0:
                self._container.mux(self._stream.encode(None))
                if self._n_samples and self._sound is not None:
                    self._container.mux(self._sound.encode(None))
            self._container.close()
            self._is_open = False
            if self._last_pts < 0:
                self._part.unlink(missing_ok=True)
                raise VideoWriteError(f"{self._path} was not written: no picture was given")
            self._part.replace(self._path)

    def abort(self) -> None:
        """Give up: leave nothing behind. Safe to call twice; a closed file stays."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(self._av.FFmpegError, OSError):
                self._container.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _encodable(self, image: ImageArray) -> VideoFrame:
        height, width = self._even_size
        if image.shape[:2] != self._even_size:
            image = np.pad(
                image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), "edge"
            )
        planes = np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2YUV_I420), dtype=np.uint8)
        frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace, frame.color_range = _SMPTE170M, _LIMITED_RANGE
        return frame

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the library says into one sentence, leaving nothing behind."""
        try:
            yield
        except (self._av.FFmpegError, OSError) as exc:
            self.abort()
            reason = exc.strerror or "the encoder failed"
            raise VideoWriteError(f"{self._path} cannot be written: {reason}") from exc


class AnnotatedVideo:
    """Draws every analysis onto its picture and writes the video; the pictures stay untouched.

    Parameters
    ----------
    path : str or Path
        The MP4 file.
    exercise : ExerciseSpec
        What is shown, see `annotate.Annotator`.
    width, height : int
        Pixels of the pictures.
    fps : float
        Nominal rate.
    preset : str
        Speed setting of x264.
    """

    def __init__(
        self,
        path: str | Path,
        exercise: ExerciseSpec,
        width: int,
        height: int,
        fps: float,
        *,
        preset: str = PRESET,
    ) -> None:
        self._writer = VideoWriter(path, width, height, fps, preset=preset)
        # OpenCV is optional: without it the line above has said so.
        from pose_analyzer.report.annotate import Annotator

        self._annotator = Annotator(exercise)
        self._canvas: ImageArray = np.empty((height, width, 3), np.uint8)
        self._voice: Voice | None = None
        self._track = SpeechTrack(SAMPLE_RATE_HZ)
        self._unspoken: list[str] = []

    def speak_with(self, voice: Voice) -> None:
        """Speak each cue at its time, see `SpeechTrack`; to be called before the first frame."""
        self._writer.add_sound(SAMPLE_RATE_HZ)
        self._voice = voice

    @property
    def unspoken(self) -> tuple[str, ...]:
        """Why cues were not spoken, a sentence for each that was not."""
        return tuple(self._unspoken)

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:
        """Append a frame with what was found in it."""
        if frame.image.shape != self._canvas.shape:
            raise ValueError(
                f"the picture must have shape {self._canvas.shape}, got {frame.image.shape}"
            )
        np.copyto(self._canvas, frame.image)
        self._annotator.draw(self._canvas, analysis)
        self._writer.write(self._canvas, frame.time_s)
        if self._voice is not None:
            # No later cue can come before this frame, so the sound until here is settled.
            self._writer.write_sound(self._track.take(frame.time_s))
            if analysis.cue is not None:
                self._speak(analysis.cue, self._voice)

    def _speak(self, cue: Cue, voice: Voice) -> None:
        """Say a cue; one that cannot be said stays text and must not end the analysis."""
        reason = f"another one was being spoken for more than {LATEST_S:g} s"
        try:
            if self._track.add(cue.time_s, voice.say(cue.text)):
                return
        except SpeechError as exc:
            reason = str(exc)
        self._unspoken.append(f"the cue at {cue.time_s:.1f} s was not spoken: {reason}")

    def close(self, summary: ClipSummary) -> None:  # noqa: ARG002 - a sink is told the summary
        """Complete the file; a cue that is being spoken at the end is spoken to its end."""
        if self._voice is not None:
            self._writer.write_sound(self._track.take_rest())
        self._writer.close()

    def abort(self) -> None:
        """Give up: leave nothing behind."""
        self._writer.abort()
