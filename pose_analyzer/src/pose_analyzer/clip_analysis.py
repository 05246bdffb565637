"""Analyse a clip and write all its files, or none.

Wires source, detector, pipeline and sinks; the command line and the demo call it, and so may a
notebook.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pose_analyzer.errors import SpeechError, VideoWriteError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercise_finder import RememberingDetector, require_exercise, told
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import PoseDetector, make_detector
from pose_analyzer.reference_judge import ReferenceJudge
from pose_analyzer.reference_library import own_judge
from pose_analyzer.report.html import HtmlReport
from pose_analyzer.report.tables import FramesCsv, RepsJson
from pose_analyzer.report.trc import TrcFile
from pose_analyzer.report.video_writer import AnnotatedVideo
from pose_analyzer.speech import find_voice
from pose_analyzer.types import ClipSummary
from pose_analyzer.video_processor import FrameSink, analyze_video
from pose_analyzer.video_source import VideoFile

Progress = Callable[[int, int | None], None]

AUTO: Final = "auto"
"""In place of an exercise: recognise it."""
VIDEO_NAME: Final = "annotated.mp4"
REPORT_NAME: Final = "report.html"
OUTPUT_NAMES: Final = frozenset({VIDEO_NAME, REPORT_NAME, "frames.csv", "reps.json", "pose.trc"})
"""All files of an analysis."""


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """What to analyse and what to write.

    Attributes
    ----------
    clip : Path
        The video file.
    exercise : str
        A name (``"squat"``), the path of an exercise file, or ``"auto"`` to recognise it.
    out : Path
        Folder of the results; made if needed, files of the same names are replaced.
    detector : str
        ``"auto"``, ``"mediapipe"`` or ``"yolo"``.
    weights : str or None
        Weights of the detector, else its own.
    device : str or None
        Where the detector runs, else the best there is.
    stature_m : float or None
        Height of the athlete, which scales ``pose.trc``; None assumes an average one.
    write_video : bool
        Whether to draw and encode ``annotated.mp4``.
    download : bool
        Whether published weights may be fetched if they are not here.
    speak : bool
        Whether ``annotated.mp4`` speaks the cues. Where nothing can speak they stay text, and a
        note of the result says what to install.
    references : Path or None
        Folder of good clips to compare with; without it repetitions of the same set.
    false_positive_rate : float
        The share of good repetitions of a clip like those that may be called unlike them; it
        decides how many clips that takes, see `own_judge`.
    """

    clip: Path
    exercise: str
    out: Path
    detector: str = "auto"
    weights: str | None = None
    device: str | None = None
    stature_m: float | None = None
    write_video: bool = True
    download: bool = False
    speak: bool = False
    references: Path | None = None
    false_positive_rate: float = 0.01

    def __post_init__(self) -> None:
        if self.speak and not self.write_video:
            raise ValueError("cues are spoken in the video: leave out --no-video, or --speak")


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """What was found and the files that tell it, the report last.

    Attributes
    ----------
    summary : ClipSummary
        Of the clip.
    files : tuple of Path
        In their places.
    notes : tuple of str
        What could not be done as asked, and what to do about it.
    """

    summary: ClipSummary
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def analyze_clip(
    request: AnalysisRequest,
    progress: Progress | None = None,
    detector: PoseDetector | None = None,
) -> AnalysisResult:
    """Analyse a clip and write its files.

    The files are made in a hidden folder and moved into ``out`` when all are complete, so a
    failure leaves nothing half-written and older results untouched. A success replaces the
    files of an older analysis, all of them.

    Parameters
    ----------
    request : AnalysisRequest
        What to do.
    progress : callable, optional
        Called with the number of frames done and the estimated number of all, or None.
    detector : PoseDetector, optional
        A detector of your own; the request's is not made then. It is closed at the end.

    Raises
    ------
    PoseAnalyzerError
        If the clip, the exercise or the detector is not as needed; the message says what to do.
    """
    given = None if request.exercise == AUTO else load_exercise(request.exercise)
    with VideoFile(request.clip) as video:
        detector = RememberingDetector(
            detector
            or make_detector(
                request.detector, request.weights, request.device, download=request.download
            )
        )
        with detector, _Staging(request.out) as staging:
            exercise, remarks = (given, ()) if given else _recognised(request.clip, detector)
            notes: list[str] = []
            sinks = _sinks(request, exercise, video, staging.folder)
            if request.speak:
                _let_speak(sinks, notes)
            pipeline = StreamPipeline(exercise, references=_judge(request, exercise.name))
            summary = analyze_video(
                video, detector, pipeline, sinks, progress=progress, notes=remarks
            )
            notes += [
                why for sink in sinks if isinstance(sink, AnnotatedVideo) for why in sink.unspoken
            ]
            return AnalysisResult(summary, staging.publish(), tuple(notes))


def _recognised(clip: Path, detector: RememberingDetector) -> tuple[ExerciseSpec, tuple[str, ...]]:
    """Return the exercise that the beginning of a clip shows, and what to tell of that."""
    with VideoFile(clip) as beginning:
        recognition = detector.look(beginning)
    return load_exercise(require_exercise(recognition)), (told(recognition),)


def _judge(request: AnalysisRequest, exercise: str) -> ReferenceJudge | None:
    """Return what repetitions are compared with besides each other."""
    if request.references is None:
        return None
    return own_judge(exercise, request.references, request.false_positive_rate)


def _let_speak(sinks: list[FrameSink], notes: list[str]) -> None:
    """Give the video a voice; where nothing can speak, a note says so and the cues stay text."""
    try:
        voice = find_voice()
    except SpeechError as exc:
        notes.append(f"the cues were not spoken: {exc}")
        return
    for sink in sinks:
        if isinstance(sink, AnnotatedVideo):
            sink.speak_with(voice)


def _sinks(
    request: AnalysisRequest, exercise: ExerciseSpec, video: VideoFile, folder: Path
) -> list[FrameSink]:
    sinks: list[FrameSink] = []
    if request.write_video:
        sinks.append(
            AnnotatedVideo(folder / VIDEO_NAME, exercise, video.width, video.height, video.fps)
        )
    sinks += [
        FramesCsv(folder / "frames.csv"),
        RepsJson(folder / "reps.json"),
        TrcFile(folder / "pose.trc", fps=video.fps, stature_m=request.stature_m),
        HtmlReport(folder / REPORT_NAME, exercise),
    ]
    return sinks


class _Staging:
    """A hidden folder in or beside ``out`` whose files move there together, always removed.

    It lies on the file system of ``out``, so that moving is renaming: within ``out`` if that
    exists, else in the folder that will hold it.
    """

    def __init__(self, out: Path) -> None:
        self._out = out.resolve()
        self._name = out
        self._made: list[Path] = []

    def __enter__(self) -> _Staging:
        try:
            if self._out.exists() and not self._out.is_dir():
                raise VideoWriteError(f"{self._name} is a file; give --out a folder")
            home = self._out if self._out.is_dir() else self._out.parent
            self._made = _make_folders(home)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self._out.name[:40]}-", dir=home))
        except OSError as exc:
            self._unmake()
            raise self._refusal(exc) from exc
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._unmake()

    def publish(self) -> tuple[Path, ...]:
        """Move all files into ``out`` and return their new paths, the report last."""
        files = sorted(
            self.folder.iterdir(), key=lambda path: (path.name == REPORT_NAME, path.name)
        )
        try:
            for path in files:
                if (self._out / path.name).is_dir():
                    raise VideoWriteError(
                        f"{self._name / path.name} is a folder; remove it or choose another --out"
                    )
            self._out.mkdir(exist_ok=True)
            for path in files:
                path.replace(self._out / path.name)
            # What an earlier analysis left there does not belong to this one.
            for name in OUTPUT_NAMES - {path.name for path in files}:
                (self._out / name).unlink(missing_ok=True)
        except OSError as exc:
            raise self._refusal(exc) from exc
        return tuple(self._name / path.name for path in files)

    def _refusal(self, exc: OSError) -> VideoWriteError:
        return VideoWriteError(f"cannot write to {self._name}: {exc.strerror}")

    def _unmake(self) -> None:
        """Remove the folders that were made, as far as nothing is in them."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that were made, the deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing
