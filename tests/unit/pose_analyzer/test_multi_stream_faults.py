"""MultiStreamProcessor: what is wrong with one stream, its source or its client stays there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest
from live_streams import (
    EVERY,
    WAIT_S,
    Client,
    CountingObserver,
    FakeDetector,
    frame,
    pipeline,
    running,
)

from pose_analyzer.errors import StreamError, VideoError
from pose_analyzer.multi_stream_processor import MultiStreamProcessor, ProcessorConfig
from pose_analyzer.serving.live_stream import StreamConfig
from pose_analyzer.serving.observer import DropCause
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.types import Frame, FrameAnalysis, PoseDetections


def join_threads(name: str) -> None:
    """Wait for the threads whose names begin so."""
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(WAIT_S)


@pytest.fixture
def detector() -> FakeDetector:
    return FakeDetector()


@pytest.fixture
def processor(detector: FakeDetector) -> Iterator[MultiStreamProcessor]:
    with running(detector) as processor:
        yield processor


@pytest.mark.parametrize("bad", [None, "frame", 5, frame(1).image])
def test_what_is_no_frame_is_refused_before_it_is_counted(
    processor: MultiStreamProcessor, bad: Frame
) -> None:
    client = Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    assert processor.push("a", frame(0))
    with pytest.raises(TypeError, match="must be a Frame or a JpegFrame, got"):
        processor.push("a", bad)
    assert processor.counts("a").pushed == 1
    processor.attach("a", [frame(2)])
    assert client.indices == [0, 2]


def test_a_source_that_gives_no_frame_ends_its_stream_with_that_error(
    processor: MultiStreamProcessor,
) -> None:
    client = Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.attach("a", [frame(0), None])  # type: ignore[list-item]
    assert client.indices == [0]
    error = client.ends[0].error
    assert isinstance(error, StreamError)
    assert isinstance(error.__cause__, TypeError)
    assert processor.stream_states() == []


def test_a_stream_whose_source_has_ended_can_be_closed_before_its_last_frame(
    processor: MultiStreamProcessor, detector: FakeDetector
) -> None:
    client = Client()
    detector.is_free.clear()
    processor.open_stream("a", pipeline(), sink=client)
    processor.push("a", frame(0))
    assert detector.is_called.wait(WAIT_S)
    processor.push("a", frame(1))
    processor.attach("a", [])
    join_threads("reader a")
    assert [state.stream_id for state in processor.stream_states()] == ["a"]
    processor.close_stream("a")
    assert processor.stream_states() == []
    detector.is_free.set()
    assert client.indices == [0]


def test_a_lossless_stream_whose_client_is_gone_ends_when_it_is_closed(
    detector: FakeDetector,
) -> None:
    all_dropped = threading.Event()

    class Watching(CountingObserver):
        def dropped(self, cause: DropCause, n: int = 1) -> None:
            super().dropped(cause, n)
            if self.drops == {"closed": 3}:
                all_dropped.set()

    with MultiStreamProcessor(detector, observer=Watching()) as processor:
        results = processor.open_stream("a", pipeline(), StreamConfig(policy="every_frame"))
        for index in range(4):
            processor.push("a", frame(index))
        while processor.counts("a").delivered == 0 or sum(detector.batches) < 4:
            detector.is_called.wait(WAIT_S)
        processor.close_stream("a")
        assert all_dropped.wait(WAIT_S)
        assert [result.frame.index for result in results] == [0]


def test_a_result_that_its_client_is_taking_at_the_close_is_delivered_and_then_the_end(
    detector: FakeDetector,
) -> None:
    is_taking, may_go_on = threading.Event(), threading.Event()
    observer, client = CountingObserver(), Client()

    def slow(event: LiveResult | StreamEnd) -> None:
        if isinstance(event, LiveResult):
            is_taking.set()
            assert may_go_on.wait(WAIT_S)
        client(event)

    processor = MultiStreamProcessor(detector, observer=observer)
    processor.open_stream("a", pipeline(), sink=slow)
    processor.push("a", frame(0))
    assert is_taking.wait(WAIT_S)
    processor.close(timeout_s=0.05)
    assert (client.results, client.ends, observer.drops) == ([], [], {})
    may_go_on.set()
    assert client.indices == [0]
    join_threads("analysis")


def test_an_analysis_that_comes_too_late_is_neither_delivered_nor_counted_twice(
    detector: FakeDetector,
) -> None:
    is_analysing, may_go_on = threading.Event(), threading.Event()
    observer, client = CountingObserver(), Client()

    class Slow:
        def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
            is_analysing.set()
            assert may_go_on.wait(WAIT_S)
            return pipeline().update(detections, index, time_s)

    processor = MultiStreamProcessor(detector, observer=observer)
    processor.open_stream("a", Slow(), sink=client)
    processor.push("a", frame(0))
    assert is_analysing.wait(WAIT_S)
    processor.close(timeout_s=0.05)
    assert client.indices == []
    may_go_on.set()
    join_threads("analysis")
    assert (client.results, observer.drops) == ([], {"closed": 1})
    assert "end_to_end" not in observer.stages


class Watched:
    """A source that tells when it was closed."""

    def __init__(self, *frames: Frame, error: Exception | None = None) -> None:
        self.frames = frames
        self.error = error
        self.n_closed = 0
        self.is_closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        yield from self.frames
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.n_closed += 1
        self.is_closed.set()


class Endless(Watched):
    """One that goes on until it is closed."""

    def __iter__(self) -> Iterator[Frame]:
        yield from self.frames
        assert self.is_closed.wait(WAIT_S)


@pytest.mark.parametrize("error", [None, OSError("unplugged"), VideoError("gone")])
def test_a_source_that_ends_or_fails_is_closed_once(
    processor: MultiStreamProcessor, error: Exception | None
) -> None:
    source, client = Watched(frame(0), error=error), Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.attach("a", source)
    assert client.indices == [0]
    join_threads("reader a")
    assert source.n_closed == 1


def test_a_source_that_ends_closes_the_others_of_its_stream(
    processor: MultiStreamProcessor,
) -> None:
    other, client = Endless(), Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.attach("a", other)
    processor.attach("a", [frame(0)])
    assert other.is_closed.wait(WAIT_S)
    assert client.indices == [0]


def test_a_generator_is_closed_when_its_stream_is(processor: MultiStreamProcessor) -> None:
    is_freed, may_go_on = threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        try:
            yield frame(0)
            assert may_go_on.wait(WAIT_S)
            yield frame(1)
        finally:
            is_freed.set()

    source = camera()
    results = processor.open_stream("a", pipeline(), EVERY)
    processor.attach("a", source)
    assert results.take(WAIT_S) is not None
    processor.close_stream("a")
    may_go_on.set()
    assert is_freed.wait(WAIT_S)


def test_a_glitch_of_a_senders_clock_costs_one_frame(processor: MultiStreamProcessor) -> None:
    client = Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    for index in range(6):
        processor.push("a", frame(index, time_s=1e9 if index == 2 else None))
    assert processor.counts("a").dropped == {"bad_frame": 1}
    processor.attach("a", [])
    assert client.indices == [0, 1, 3, 4, 5]


def test_a_sender_that_begins_anew_is_heard_again_and_time_goes_on(
    processor: MultiStreamProcessor,
) -> None:
    client = Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.attach("a", [frame(n, time_s=n % 50 + 0.5) for n in range(60)])
    assert client.indices == [*range(50), *range(52, 60)]
    times_s = [result.analysis.time_s for result in client.results]
    assert times_s == sorted(times_s)


@pytest.mark.parametrize("captured_s", ["x", float("nan"), float("inf"), -1e18, [0.0]])
def test_a_time_of_capture_that_is_none_is_refused_before_it_is_counted(
    processor: MultiStreamProcessor, captured_s: float
) -> None:
    client, other = Client(), Client()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.open_stream("b", pipeline(), EVERY, other)
    with pytest.raises(ValueError, match="captured_s must be a finite number of seconds"):
        processor.push("a", frame(0), captured_s)
    assert processor.counts("a").pushed == 0
    for name in "ab":
        processor.attach(name, [frame(1)])
    assert (client.indices, other.indices) == ([1], [1])


def test_a_client_may_close_the_processor_while_it_takes_a_result(
    detector: FakeDetector, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    n_before = threading.active_count()
    processor = MultiStreamProcessor(detector)

    def closing(event: LiveResult | StreamEnd) -> None:
        if isinstance(event, LiveResult):
            processor.close(timeout_s=WAIT_S)
        client(event)

    processor.open_stream("a", pipeline(), sink=closing)
    started_s = time.monotonic()
    processor.push("a", frame(0))
    assert client.indices == [0]
    assert [end.error for end in client.ends] == [None]
    assert time.monotonic() - started_s < 0.5 * WAIT_S
    join_threads("analysis")
    assert (threading.active_count(), caplog.text) == (n_before, "")


def test_a_source_may_close_the_processor_that_reads_it(
    detector: FakeDetector, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    n_before = threading.active_count()
    processor = MultiStreamProcessor(detector)

    def camera() -> Iterator[Frame]:
        processor.close(timeout_s=WAIT_S)
        yield frame(0)

    processor.open_stream("a", pipeline(), sink=client)
    processor.attach("a", camera())
    assert client.indices == []
    join_threads("reader a")
    assert (threading.active_count(), caplog.text) == (n_before, "")


def test_what_did_not_stop_is_named(
    detector: FakeDetector, caplog: pytest.LogCaptureFixture
) -> None:
    is_taking, may_go_on = threading.Event(), threading.Event()

    def slow(_: LiveResult | StreamEnd) -> None:
        is_taking.set()
        assert may_go_on.wait(WAIT_S)

    processor = MultiStreamProcessor(detector)
    processor.open_stream("door", pipeline(), sink=slow)
    processor.open_stream("yard", pipeline())
    processor.push("door", frame(0))
    assert is_taking.wait(WAIT_S)
    processor.close(timeout_s=0.05)
    may_go_on.set()
    join_threads("analysis")
    assert re.search(r"still at work after 0.1 s: analysis \d; streams: door\n", caplog.text)


def test_what_failed_is_told_apart_and_a_reason_is_told_once(
    processor: MultiStreamProcessor,
) -> None:
    told = StreamError("process 1 ended; open the stream again")

    class Gone:
        def update(self, *_: object) -> FrameAnalysis:
            raise told

    gone, failing = Client(), Client()

    def vanishing(event: LiveResult | StreamEnd) -> None:
        failing(event)
        if isinstance(event, LiveResult):
            raise ConnectionError("hung up")

    processor.open_stream("gone", Gone(), sink=gone)
    processor.open_stream("failing", pipeline(), sink=vanishing)
    for name in ("gone", "failing"):
        processor.push(name, frame(0))
    assert (gone.indices, failing.indices) == ([], [0])
    assert gone.ends[0].error is told
    assert "because its client failed (ConnectionError: hung up)" in str(failing.ends[0].error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 0},
        {"max_batch": 1.5},
        {"n_workers": 0},
        {"n_workers": 2.0},
        {"idle_s": -1},
        {"idle_s": 0.0},
        {"idle_s": float("nan")},
    ],
)
def test_a_processor_is_configured_within_limits_and_leaves_no_thread(
    wrong: dict[str, int], detector: FakeDetector
) -> None:
    n_before = threading.active_count()
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        MultiStreamProcessor(detector, ProcessorConfig(**wrong))  # type: ignore[arg-type]
    assert threading.active_count() == n_before
