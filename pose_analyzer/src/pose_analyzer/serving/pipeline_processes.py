"""Runs the pipelines of live streams in a few processes, so that one's lock does not limit them.

::

    worker threads ─► ProcessPipeline.update ─► pickled detections ─► process: StreamPipeline
                      (waits without the lock) ◄─ pickled analysis ◄─┘

A stream stays in its process. What its pipeline answers or raises is what it would in this process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess

from pose_analyzer.errors import StreamClosedError, StreamError
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.lifetime import Closing
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.serving.analysis_process import PROTOCOL, Failure, Opening, Update, serve
from pose_analyzer.serving.live_stream import FramePipeline
from pose_analyzer.serving.process_count import analysis_processes
from pose_analyzer.types import FrameAnalysis, PoseDetections

logger = logging.getLogger(__name__)


class _Worker:
    """One process, and the connection to it.

    Several threads may ask at once: each sends when it wants to, and reads its own answer when
    those before it have been read, so the process never waits for a thread of this one.
    """

    def __init__(self, context: SpawnContext, name: str) -> None:
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), name=name, daemon=True)
        self.process.start()
        # The process has its own copy: with this one open, its end would go unnoticed.
        theirs.close()
        self._sending = threading.Lock()
        self._last_read = threading.Lock()
        self.streams: set[int] = set()
        self._closed: deque[int] = deque()
        self._is_broken = False

    @property
    def can_serve(self) -> bool:
        """Whether it takes streams. A process that ends closes its connection before it is gone."""
        return not self._is_broken and self.process.is_alive()

    def ask(self, request: Opening | Update) -> object:
        """Send a request and wait for its answer, without the interpreter's lock."""
        data = pickle.dumps(request, PROTOCOL)
        is_read = threading.Lock()
        is_read.acquire()
        try:
            with self._sending:
                self._connection.send_bytes(data)
                before, self._last_read = self._last_read, is_read
            with before:
                found = self._connection.recv_bytes()
        except BaseException as exc:
            # An answer that is left unread would be taken for that of the next request.
            self._is_broken = True
            self.process.kill()
            if isinstance(exc, EOFError | OSError):
                raise StreamError(
                    f"{self.process.name} ended with all of its streams; open the stream again"
                ) from exc
            raise
        finally:
            is_read.release()
        answer: object = pickle.loads(found)  # noqa: S301 - it comes from our own process
        if isinstance(answer, Failure):
            raise answer.error
        return answer

    def forget(self, stream: int) -> None:
        """Take that a stream is no more. Waits for nothing: the garbage collector calls it."""
        self.streams.discard(stream)
        self._closed.append(stream)

    def closed_streams(self) -> tuple[int, ...]:
        """Return the streams that the process has not been told of yet."""
        closed = []
        with contextlib.suppress(IndexError):
            while True:
                closed.append(self._closed.popleft())
        return tuple(closed)


class ProcessPipeline:
    """The pipeline of one stream, in a process of its pool; made by `PipelineProcesses.open`.

    When nothing refers to it any more, its process forgets the stream.
    """

    def __init__(self, worker: _Worker, stream: int, is_closed: threading.Event) -> None:
        self._worker = worker
        self._stream = stream
        self._is_closed = is_closed
        weakref.finalize(self, worker.forget, stream).atexit = False

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        """Return what is known after a frame; whatever the pipeline raises is raised here.

        Raises
        ------
        StreamClosedError
            If the processes were closed.
        StreamError
            If the process of the stream ended.
        """
        closed = self._worker.closed_streams()
        answer = self.ask(Update(self._stream, detections, index, time_s, closed))
        if not isinstance(answer, FrameAnalysis):
            raise TypeError(f"a pipeline must return a FrameAnalysis, got {answer!r}")
        return answer

    def ask(self, request: Opening | Update) -> object:
        """Ask the process of the stream."""
        try:
            return self._worker.ask(request)
        except StreamError as exc:
            if self._is_closed.is_set():
                raise StreamClosedError("the analysis processes are closed; make new ones") from exc
            raise


class PipelineProcesses(Closing):
    """Processes that run pipelines. A context manager: leaving it ends them.

    The script that makes them must be importable: what it does stands under
    ``if __name__ == "__main__"``, as for all processes that Python spawns.

    Parameters
    ----------
    n_processes : int
        They start at once; the first `open` waits for one. With 0 the pipelines run in this
        process, as they would without this.

    Examples
    --------
    ::

        with PipelineProcesses.for_streams(32) as processes:
            config = ProcessorConfig(n_workers=processes.n_workers)
            with MultiStreamProcessor(detector, config) as processor:
                processor.open_stream("door", processes.open(load_exercise("squat")), sink=print)
    """

    def __init__(self, n_processes: int) -> None:
        if n_processes < 0:
            raise ValueError(f"n_processes must be at least 0, got {n_processes}")
        self.n_processes = n_processes
        # Never forked: a copy of this process would hold its GPU context and its locks.
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._process_names = (f"analysis process {number}" for number in itertools.count())
        self._stream_numbers = itertools.count()
        self._workers = [self._start() for _ in range(n_processes)]

    @classmethod
    def for_streams(cls, n_streams: int, *, is_network_on_cpu: bool = False) -> PipelineProcesses:
        """Return as many as so many streams need on this machine, by `analysis_processes`.

        Parameters
        ----------
        n_streams : int
            Open at once, at least 1.
        is_network_on_cpu : bool
            ``detector.is_on_cpu``.
        """
        n_cores = available_cores()
        return cls(analysis_processes(n_streams, n_cores, is_network_on_cpu=is_network_on_cpu))

    @property
    def n_workers(self) -> int:
        """How many threads a `MultiStreamProcessor` should have for them: most only wait."""
        return max(2, 2 * self.n_processes)

    def open(self, pipeline: ExerciseSpec | Callable[[], FramePipeline]) -> FramePipeline:
        """Make the pipeline of a stream, in the process with the fewest.

        Parameters
        ----------
        pipeline : ExerciseSpec or callable
            The exercise of a `StreamPipeline`, or what makes the pipeline there: it and its
            arguments are pickled, so a function or class of a module, or a `functools.partial`.

        Returns
        -------
        FramePipeline
            For `MultiStreamProcessor.open_stream`.

        Raises
        ------
        ValueError
            If the callable cannot be pickled.
        StreamClosedError
            If the processes were closed.
        StreamError
            If the process ended meanwhile.
        """
        if isinstance(pipeline, ExerciseSpec):
            pipeline = partial(StreamPipeline, pipeline)
        if self.n_processes == 0:
            self._require_open()
            return pipeline()
        try:
            maker = pickle.dumps(pipeline, PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as exc:
            raise ValueError(
                f"the maker of a pipeline must be a function or class of a module, or a "
                f"functools.partial of one, so that another process can call it; got {pipeline!r}"
            ) from exc
        with self._lock:
            worker = self._least_loaded()
            stream = next(self._stream_numbers)
            worker.streams.add(stream)
        opened = ProcessPipeline(worker, stream, self._is_closed)
        opened.ask(Opening(stream, maker))
        return opened

    def close(self, timeout_s: float = 5.0) -> None:
        """End the processes, at once; an update that waits raises `StreamClosedError`.

        Parameters
        ----------
        timeout_s : float
            At most so long in all.
        """
        end_s = time.monotonic() + timeout_s
        with self._lock:
            self._is_closed.set()
            alive = [worker.process for worker in self._workers]
            self._workers = []
        for process in alive:
            # They keep nothing, and one that is stopped or busy would not hear a request to end.
            process.kill()
        alive = _left(alive, end_s)
        if alive:
            names = ", ".join(process.name for process in alive)
            logger.error("still there after %.1f s: %s", timeout_s, names)

    def _require_open(self) -> None:
        if self._is_closed.is_set():
            raise StreamClosedError("the analysis processes are closed; make new ones")

    def _least_loaded(self) -> _Worker:
        self._require_open()
        for place, worker in enumerate(self._workers):
            if not worker.can_serve:
                logger.error("%s ended; another one takes its place", worker.process.name)
                self._workers[place] = self._start()
        return min(self._workers, key=lambda worker: len(worker.streams))

    def _start(self) -> _Worker:
        return _Worker(self._context, next(self._process_names))


def _left(processes: Sequence[SpawnProcess], end_s: float) -> list[SpawnProcess]:
    """Wait for processes until a time; return those that are still there."""
    for process in processes:
        process.join(max(end_s - time.monotonic(), 0.0))
    return [process for process in processes if process.is_alive()]
