"""Pipelines in other processes: the same answers, the same errors, and nothing left behind."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from pose_analyzer.errors import StreamClosedError, StreamError
from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.multi_stream_processor import MultiStreamProcessor
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.serving.live_stream import FramePipeline, StreamConfig
from pose_analyzer.serving.pipeline_processes import PipelineProcesses
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.synthetic import Athlete, Camera, MotionSpec, detections_from_truth, synthesize
from pose_analyzer.types import Frame, FrameAnalysis, PoseDetections

NOBODY = PoseDetections.empty()
SQUAT = load_exercise("squat")


class Nobody:
    """A detector that sees nobody, at once."""

    def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        return [NOBODY for _ in frames]


class Teller:
    """A pipeline that tells its process, and how many of it are there, as index and count."""

    n_alive = 0

    def __init__(self) -> None:
        Teller.n_alive += 1
        self._inner = StreamPipeline(SQUAT)

    def __del__(self) -> None:
        Teller.n_alive -= 1

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        found = self._inner.update(detections, index, time_s)
        return replace(found, index=os.getpid(), rep_count=Teller.n_alive)


class Stubborn:
    """A pipeline that dies, sleeps or raises, as the number of the frame says."""

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        if index == 0:
            os._exit(3 + detections.n_people)
        if index == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60.0)
        raise UntoldError(index, str(time_s))


class UntoldError(Exception):
    """An exception that pickle writes and cannot read."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{number} {text}")


@pytest.fixture(scope="module")
def processes() -> Iterator[PipelineProcesses]:
    with PipelineProcesses(2) as opened:
        yield opened


@pytest.fixture(scope="module")
def clip() -> list[PoseDetections]:
    truth = synthesize(Athlete(), MotionSpec("squat", reps=2), Camera(60.0))
    return detections_from_truth(truth, noise_px=3.0, rng=np.random.default_rng(0))


def copied(analysis: FrameAnalysis) -> FrameAnalysis:
    """Return what arrives: equal, but sharing no strings with what it was made of."""
    copy: FrameAnalysis = pickle.loads(pickle.dumps(analysis))  # noqa: S301
    return copy


def process_of(pipeline: FramePipeline, time_s: float = 0.0) -> int:
    return pipeline.update(NOBODY, 0, time_s).index


def test_the_analyses_are_those_of_this_process_to_the_last_bit(
    processes: PipelineProcesses, clip: list[PoseDetections]
) -> None:
    here, there = StreamPipeline(SQUAT), processes.open(SQUAT)
    n_finished = 0
    for index, found in enumerate(clip):
        ours = here.update(found, index, index / 30.0)
        expected = pickle.dumps(copied(ours))
        assert pickle.dumps(there.update(found, index, index / 30.0)) == expected
        n_finished += len(ours.finished)
    assert n_finished == 2


def test_no_processes_are_this_one() -> None:
    with PipelineProcesses.for_streams(4) as none:
        assert none.n_processes == 0
        assert none.n_workers == 2
        assert isinstance(none.open(SQUAT), StreamPipeline)
        assert process_of(none.open(Teller)) == os.getpid()
    with pytest.raises(StreamClosedError):
        none.open(SQUAT)


def test_streams_are_spread_and_stay_where_they_are(processes: PipelineProcesses) -> None:
    gc.collect()
    streams = [processes.open(Teller) for _ in range(4)]
    homes = [process_of(stream) for stream in streams]
    assert sorted(homes.count(home) for home in set(homes)) == [2, 2]
    assert os.getpid() not in homes
    assert [process_of(stream, 1.0) for stream in streams] == homes


def test_a_stream_that_is_no_more_is_forgotten(processes: PipelineProcesses) -> None:
    gc.collect()
    streams = [processes.open(Teller) for _ in range(6)]
    first = process_of(streams[0])
    kept, gone = [one for one in streams if process_of(one, 1.0) == first][:2]
    before = kept.update(NOBODY, 0, 2.0).rep_count
    streams.clear()
    del gone
    assert kept.update(NOBODY, 0, 3.0).rep_count < before


def test_an_error_comes_back_as_it_is_and_the_stream_goes_on(processes: PipelineProcesses) -> None:
    here, there = StreamPipeline(SQUAT), processes.open(SQUAT)
    for pipeline in (here, there):
        pipeline.update(NOBODY, 0, 1.0)
    with pytest.raises(ValueError, match="time") as ours:
        here.update(NOBODY, 1, 1.0)
    with pytest.raises(ValueError, match="time") as theirs:
        there.update(NOBODY, 1, 1.0)
    assert str(theirs.value) == str(ours.value)
    assert "pipeline.py" in theirs.value.__notes__[0]
    assert there.update(NOBODY, 1, 2.0).time_s == 2.0


def test_an_error_that_cannot_travel_is_told(processes: PipelineProcesses) -> None:
    with pytest.raises(StreamError, match=r"UntoldError: 2 0\.5"):
        processes.open(Stubborn).update(NOBODY, 2, 0.5)


def test_a_maker_that_raises_or_cannot_travel_is_refused(processes: PipelineProcesses) -> None:
    with pytest.raises(ZeroDivisionError):
        processes.open(partial(divmod, 1, 0))
    with pytest.raises(ValueError, match="function or class of a module"):
        processes.open(lambda: StreamPipeline(SQUAT))


def test_many_threads_get_their_own_answers(
    processes: PipelineProcesses, clip: list[PoseDetections]
) -> None:
    found: dict[int, list[FrameAnalysis]] = {}

    def follow(number: int) -> None:
        stream = processes.open(SQUAT)
        found[number] = [
            stream.update(one, 1000 * number + index, index / 30.0)
            for index, one in enumerate(clip[:40])
        ]

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6))
    for number, analyses in found.items():
        assert [one.index for one in analyses] == list(range(1000 * number, 1000 * number + 40))
    assert all(
        pickle.dumps(replace(one, index=0)) == pickle.dumps(replace(other, index=0))
        for ours, theirs in pairwise(found.values())
        for one, other in zip(ours, theirs, strict=True)
    )


def test_a_processor_serves_streams_by_processes(processes: PipelineProcesses) -> None:
    ends: dict[str, StreamEnd] = {}
    counts: dict[str, list[int]] = {"good": [], "dies": []}
    has_ended = threading.Barrier(3)

    def take(event: LiveResult | StreamEnd) -> None:
        if isinstance(event, LiveResult):
            counts[event.stream_id].append(event.analysis.index)
        else:
            ends[event.stream_id] = event
            has_ended.wait(10.0)

    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    every = StreamConfig(policy="every_frame")
    with MultiStreamProcessor(Nobody()) as processor:
        processor.open_stream("good", processes.open(SQUAT), every, take)
        processor.open_stream("dies", processes.open(Stubborn), every, take)
        processor.attach("good", [Frame(picture, index / 30.0, index) for index in range(5)])
        processor.attach("dies", [Frame(picture, 0.5, 2)])
        has_ended.wait(10.0)
    assert counts == {"good": [0, 1, 2, 3, 4], "dies": []}
    assert ends["good"].error is None
    assert "UntoldError: 2 0.5" in str(ends["dies"].error)


def test_a_process_that_dies_ends_its_streams_only_and_is_replaced(
    processes: PipelineProcesses,
) -> None:
    gc.collect()
    dies, *others = [processes.open(maker) for maker in (Stubborn, Teller, Teller, Teller)]
    homes = [process_of(stream) for stream in others]
    with pytest.raises(StreamError, match=r"analysis process \d ended with all of its streams"):
        dies.update(NOBODY, 0, 0.0)
    n_ended = 0
    for stream, home in zip(others, homes, strict=True):
        try:
            assert process_of(stream, 1.0) == home
        except StreamError:
            n_ended += 1
    assert 1 <= n_ended <= 2
    assert len({process_of(processes.open(Teller)) for _ in range(2)} - set(homes)) == 1


def test_closing_ends_a_process_that_hangs() -> None:
    processes = PipelineProcesses(1)
    hangs = processes.open(Stubborn)
    raised: list[Exception] = []

    def wait() -> None:
        try:
            hangs.update(NOBODY, 1, 0.0)
        except StreamError as exc:
            raised.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    started_s = time.monotonic()
    processes.close(timeout_s=1.0)
    thread.join(1.0)
    assert time.monotonic() - started_s < 2.0
    assert [type(one) for one in raised] == [StreamClosedError]
    with pytest.raises(StreamClosedError):
        processes.open(SQUAT)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="processes cannot be stopped here")
def test_closing_does_not_wait_for_a_process_that_is_stopped() -> None:
    processes = PipelineProcesses(1)
    process = process_of(processes.open(Teller))
    os.kill(process, signal.SIGSTOP)
    assert os.waitid(os.P_PID, process, os.WSTOPPED) is not None
    started_s = time.monotonic()
    processes.close(timeout_s=10.0)
    assert time.monotonic() - started_s < 3.0


def test_no_process_is_too_few() -> None:
    with pytest.raises(ValueError, match="n_processes must be at least 0, got -1"):
        PipelineProcesses(-1)
