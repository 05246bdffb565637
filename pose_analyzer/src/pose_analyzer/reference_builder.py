"""Makes references of clips: every full repetition that was seen well enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pose_analyzer.errors import ReferencesError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import PoseDetector, make_detector
from pose_analyzer.references import ReferenceClip, save_clips
from pose_analyzer.types import PoseDetections, RepAnalysis, RepMotion
from pose_analyzer.video_source import VideoFile

Progress = Callable[[int, int | None], None]

MIN_SEEN: Final = 0.5
"""Least share of the exercise's keypoints seen in a repetition that is a reference: one of two
sides for its whole time (chosen by us; a repetition is scored from 0.4 on)."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to make references of.

    Attributes
    ----------
    clips : tuple of Path
        Video files; the name without its ending is the ``video_id``.
    exercise : str
        A name or the path of an exercise file.
    out : Path
        Folder of the references; ``out/<exercise>`` is made or added to.
    quality, source, licence : str
        For the metadata, of all clips.
    detector : str
        ``"auto"``, ``"mediapipe"`` or ``"yolo"``.
    weights, device : str or None
        Of the detector, else its own and the best there is.
    download : bool
        Whether published weights may be fetched if they are not here.
    """

    clips: tuple[Path, ...]
    exercise: str
    out: Path
    quality: str = "good"
    source: str = "own recording"
    licence: str = "not stated"
    detector: str = "auto"
    weights: str | None = None
    device: str | None = None
    download: bool = False


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was added.

    Attributes
    ----------
    clips : tuple of ReferenceClip
        In the order of the request.
    folder : Path
        Where they are.
    n_reps : int
        Repetitions of this exercise there now, earlier ones included.
    notes : tuple of str
        Which repetitions were left out and why.
    """

    clips: tuple[ReferenceClip, ...]
    folder: Path
    n_reps: int
    notes: tuple[str, ...]


def build_references(
    request: BuildRequest,
    progress: Progress | None = None,
    detector_for: Callable[[], PoseDetector] | None = None,
) -> BuildResult:
    """Analyse clips and add their repetitions to the references, all of them or none.

    Parameters
    ----------
    request : BuildRequest
        What to do.
    progress : callable, optional
        Called with the number of frames done of a clip and the estimated number, or None.
    detector_for : callable, optional
        Makes a detector for each clip, else the request's is made. Each is closed.

    Raises
    ------
    ValueError
        If no clip is given, or two have the same name.
    PoseAnalyzerError
        If a clip cannot be read, or shows no full repetition well enough. Nothing is written then.
    """
    names = [path.stem for path in request.clips]
    if not names:
        raise ValueError("at least one clip is needed")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two clips are called {twice[0]}; rename one")
    exercise = load_exercise(request.exercise)
    clips: list[ReferenceClip] = []
    notes: list[str] = []
    for path in request.clips:
        with VideoFile(path) as video, _detector(request, detector_for) as detector:
            detected = _detected(video, detector, progress)
            found = list(finished_motions(detected, StreamPipeline(exercise)))
            notes += [f"{path.name}: {warning}" for warning in video.warnings]
            kept, left_out = _fit_to_keep(found, path, exercise)
            notes += left_out
            labels = (request.quality, request.source, request.licence, detector.name)
            clips.append(ReferenceClip(path.stem, *labels, kept))
    n_reps = save_clips(request.out, exercise.name, clips)
    return BuildResult(tuple(clips), request.out / exercise.name, n_reps, tuple(notes))


def finished_motions(
    detected: Iterable[tuple[int, float, PoseDetections]], pipeline: StreamPipeline
) -> Iterator[tuple[RepAnalysis, RepMotion]]:
    """Yield every repetition of a stream with its movement.

    Parameters
    ----------
    detected : iterable of (int, float, PoseDetections)
        Index and time of each frame, and who was seen in it.
    pipeline : StreamPipeline
        New, or reset.
    """
    for index, time_s, detections in detected:
        for one in pipeline.update(detections, index, time_s).finished:
            yield one, one.motion
    for one in pipeline.finish():
        yield one, one.motion


def _detector(
    request: BuildRequest, detector_for: Callable[[], PoseDetector] | None
) -> PoseDetector:
    if detector_for is not None:
        return detector_for()
    return make_detector(
        request.detector, request.weights, request.device, download=request.download
    )


def _detected(
    video: VideoFile, detector: PoseDetector, progress: Progress | None
) -> Iterator[tuple[int, float, PoseDetections]]:
    for frame in video:
        yield frame.index, frame.time_s, detector.detect([frame])[0]
        if progress is not None:
            progress(frame.index + 1, video.n_frames_estimate)


def _fit_to_keep(
    found: list[tuple[RepAnalysis, RepMotion]], path: Path, exercise: ExerciseSpec
) -> tuple[tuple[RepMotion, ...], list[str]]:
    """Return the full repetitions that were seen well, and a note on each other one."""
    full = [(one, motion) for one, motion in found if not one.rep.is_partial]
    if not full:
        raise ReferencesError(
            f"{path} shows no full repetition of {exercise.name}; nothing was written"
        )
    kept = tuple(motion for one, motion in full if one.seen >= MIN_SEEN)
    if not kept:
        best = max(one.seen for one, _ in full)
        raise ReferencesError(
            f"{path} shows too little of the body: {best:.0%} of what {exercise.name} needs, "
            f"{MIN_SEEN:.0%} are wanted; film {exercise.best_view}; nothing was written"
        )
    notes = [
        f"{path.name}: the repetition at {one.rep.start_s:.1f} s was left out: "
        + ("it is partial" if one.rep.is_partial else f"{one.seen:.0%} of the body was seen")
        for one, _ in found
        if one.rep.is_partial or one.seen < MIN_SEEN
    ]
    return kept, notes
