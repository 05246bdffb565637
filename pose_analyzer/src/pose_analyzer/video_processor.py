"""Analyses a whole clip: every frame, in order, its stages overlapping.

Decoding, detecting, analysing and writing each run in their own thread with a short queue between
them. The results depend on the frames alone: the same as feeding them one by one.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, Protocol

from pose_analyzer.assembly_line import AssemblyLine
from pose_analyzer.clip_summary import SummaryBuilder
from pose_analyzer.errors import VideoError
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.pose_detector import PoseDetector
from pose_analyzer.types import ClipSummary, Frame, FrameAnalysis, PoseDetections
from pose_analyzer.video_source import VideoSource

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and the estimated number of all, or None."""

_WAITING: Final = 3
"""Frames that may wait before each stage: enough for a slow picture, small against memory."""


class FrameSink(Protocol):
    """Something that takes the analyses of a clip: a video, a table, a report."""

    def write(self, frame: Frame, analysis: FrameAnalysis) -> None:
        """Take the next frame. The image may be kept, but not changed."""
        ...

    def close(self, summary: ClipSummary) -> None:
        """Complete what was written."""
        ...

    def abort(self) -> None:
        """Give up and leave nothing half-written. May come at any time, and more than once."""
        ...


def analyze_video(  # noqa: PLR0913 - one keyword for each choice
    source: VideoSource,
    detector: PoseDetector,
    pipeline: StreamPipeline,
    sinks: Sequence[FrameSink],
    *,
    progress: Progress | None = None,
    batch_size: int = 1,
    notes: Sequence[str] = (),
) -> ClipSummary:
    """Analyse every frame of a clip.

    Parameters
    ----------
    source : VideoSource
        The frames.
    detector : PoseDetector
        Used by one thread, in the order of the frames.
    pipeline : StreamPipeline
        New, or reset.
    sinks : sequence of FrameSink
        Take frames and analyses in order, and the summary at the end. They are called by the
        calling thread alone.
    progress : callable, optional
        Called after each frame by the calling thread.
    batch_size : int
        Frames that the detector gets at once; more than one pays on a GPU.
    notes : sequence of str
        What the summary's warnings begin with.

    Returns
    -------
    ClipSummary
        Its warnings say where the source ended early and how little was seen.

    Raises
    ------
    VideoError
        If the source gave no frame at all.
    Exception
        The first error of any stage. All stages have ended and all sinks were aborted by then;
        the same holds for KeyboardInterrupt.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    builder = SummaryBuilder(source, pipeline.exercise, detector.name, notes)
    with contextlib.ExitStack() as undo:
        for sink in sinks:
            undo.callback(sink.abort)
        with AssemblyLine() as line:
            frames = line.stage(_frames(source), max(_WAITING, batch_size))
            detected = line.stage(_detected(frames, detector, batch_size), _WAITING)
            analysed = line.stage(_analysed(detected, pipeline), _WAITING)
            for frame, analysis in analysed:
                builder.add(analysis)
                for sink in sinks:
                    sink.write(frame, analysis)
                if progress is not None:
                    progress(builder.n_frames, source.n_frames_estimate)
        if builder.n_frames == 0:
            raise VideoError(f"{source.name} gave no frame; record or copy it again")
        summary = builder.finish(pipeline.finish(), pipeline.n_left_right_swaps)
        for sink in sinks:
            sink.close(summary)
        undo.pop_all()
    return summary


def _frames(source: Iterable[Frame]) -> Generator[Frame, None, None]:
    yield from source


def _detected(
    frames: Iterator[Frame], detector: PoseDetector, batch_size: int
) -> Generator[tuple[Frame, PoseDetections], None, None]:
    while batch := list(itertools.islice(frames, batch_size)):
        yield from zip(batch, detector.detect(batch), strict=True)


def _analysed(
    detected: Iterator[tuple[Frame, PoseDetections]], pipeline: StreamPipeline
) -> Generator[tuple[Frame, FrameAnalysis], None, None]:
    for frame, detections in detected:
        yield frame, pipeline.update(detections, frame.index, frame.time_s)
