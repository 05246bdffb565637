"""What a process of `PipelineProcesses` does: keep the pipelines of its streams and run them."""

from __future__ import annotations

import contextlib
import pickle
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from pose_analyzer.errors import StreamError
from pose_analyzer.serving.live_stream import FramePipeline
from pose_analyzer.types import FrameAnalysis, PoseDetections

PROTOCOL: Final = 5
"""Of pickle: arrays go as plain bytes."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The request to make the pipeline of a stream; answered by None.

    Attributes
    ----------
    stream : int
        Its number, new.
    maker : bytes
        A pickled callable that returns the pipeline.
    """

    stream: int
    maker: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """The request to analyse the detections of a frame; answered by a `FrameAnalysis`.

    Attributes
    ----------
    stream : int
        Whose frame it is.
    detections, index, time_s
        As in `FramePipeline.update`.
    closed : tuple of int
        Streams that are no more.
    """

    stream: int
    detections: PoseDetections
    index: int
    time_s: float
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that raised."""

    error: Exception


def serve(connection: Connection) -> None:
    """Answer requests, one after the other, until the other end of the connection is closed."""
    # Ctrl-C reaches every process of a terminal; the one that serves decides when these end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipelines: dict[int, FramePipeline] = {}
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send_bytes(_answer(pipelines, connection.recv_bytes()))


def _answer(pipelines: dict[int, FramePipeline], request: bytes) -> bytes:
    try:
        return pickle.dumps(_done(pipelines, pickle.loads(request)), PROTOCOL)  # noqa: S301
    except Exception as exc:  # noqa: BLE001 - it is raised where the request came from
        return _failure(exc)


def _done(pipelines: dict[int, FramePipeline], request: Opening | Update) -> FrameAnalysis | None:
    if isinstance(request, Opening):
        maker: Callable[[], FramePipeline] = pickle.loads(request.maker)  # noqa: S301
        pipelines[request.stream] = maker()
        return None
    for stream in request.closed:
        pipelines.pop(stream, None)  # One whose maker raised was never here.
    pipeline = pipelines[request.stream]
    return pipeline.update(request.detections, request.index, request.time_s)


def _failure(error: Exception) -> bytes:
    """Return an exception, with where it was raised; another one if it cannot travel."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        answer = pickle.dumps(Failure(error), PROTOCOL)
        pickle.loads(answer)  # noqa: S301 - many an exception can be written but not read
    except Exception:  # noqa: BLE001 - whatever its class does when it is copied
        text = f"the analysis failed ({type(error).__name__}: {error}); open the stream again"
        return pickle.dumps(Failure(StreamError(text)), PROTOCOL)
    return answer
