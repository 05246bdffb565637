"""MultiStreamProcessor: order, isolation, accounting, and clean ends, with a fake detector."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from live_streams import (
    EVERY,
    POISON,
    WAIT_S,
    Client,
    CountingObserver,
    FakeDetector,
    failed_observers,
    frame,
    pipeline,
    running,
)

from pose_analyzer.errors import (
    DetectorError,
    StreamClosedError,
    StreamError,
    StreamIdleError,
    VideoError,
)
from pose_analyzer.multi_stream_processor import MultiStreamProcessor, ProcessorConfig
from pose_analyzer.serving.live_stream import StreamConfig
from pose_analyzer.serving.result_queue import LiveResult, StreamEnd
from pose_analyzer.types import Frame, FrameAnalysis, PoseDetections


class BrokenPipeline:
    """Fails at its third frame."""

    def update(self, detections: PoseDetections, index: int, time_s: float) -> FrameAnalysis:
        if index == 2:
            raise ZeroDivisionError("no such angle")
        return pipeline().update(detections, index, time_s)


@pytest.fixture(autouse=True)
def _no_observer_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not failed_observers(caplog)


@pytest.fixture
def detector() -> FakeDetector:
    return FakeDetector()


@pytest.fixture
def processor(detector: FakeDetector) -> Iterator[MultiStreamProcessor]:
    with running(detector) as processor:
        yield processor


def test_every_frame_of_a_lossless_stream_is_analysed_in_order(
    processor: MultiStreamProcessor,
) -> None:
    clients = {name: Client() for name in "abc"}
    for name, client in clients.items():
        processor.open_stream(name, pipeline(), EVERY, client)
        processor.attach(name, [frame(index) for index in range(40)])
    assert [client.indices for client in clients.values()] == [list(range(40))] * 3
    assert [client.ends[0].error for client in clients.values()] == [None] * 3


def test_live_results_equal_those_of_the_pipeline_alone(processor: MultiStreamProcessor) -> None:
    client, alone = Client(), pipeline()
    processor.open_stream("a", pipeline(), EVERY, client)
    processor.attach("a", [frame(index) for index in range(10)])
    expected = [alone.update(PoseDetections.empty(), i, i / 30.0).motion.phase for i in range(10)]
    assert client.indices == list(range(10))
    assert [result.analysis.motion.phase for result in client.results] == expected


def test_a_newer_frame_replaces_the_one_that_waits(
    processor: MultiStreamProcessor, detector: FakeDetector
) -> None:
    client = Client()
    detector.is_free.clear()
    processor.open_stream("a", pipeline(), sink=client)
    assert processor.push("a", frame(0))
    assert detector.is_called.wait(WAIT_S)
    assert all(processor.push("a", frame(index)) for index in range(1, 6))
    counts = processor.counts("a")
    assert (counts.pushed, counts.in_flight, counts.dropped) == (6, 2, {"replaced": 4})
    detector.is_free.set()
    processor.attach("a", [])
    assert client.indices == [0, 5]


@pytest.mark.parametrize(
    "bad",
    [
        Frame(np.zeros((4, 4, 3), np.float32), 0.5, 1),
        Frame(np.zeros((4, 4), np.uint8), 0.5, 1),
        Frame(np.zeros((0, 4, 3), np.uint8), 0.5, 1),
        frame(1, time_s=float("nan")),
        frame(1, time_s=0.0),
        frame(1, time_s=-1.0),
        frame(1, time_s=10**400),
        Frame(None, 0.5, 1),  # type: ignore[arg-type]
        Frame(frame(1).image, None, 1),  # type: ignore[arg-type]
        Frame(frame(1).image, "soon", 1),  # type: ignore[arg-type]
    ],
)
def test_a_bad_frame_is_refused_and_the_stream_goes_on(
    processor: MultiStreamProcessor, bad: Frame
) -> None:
    results = processor.open_stream("a", pipeline(), EVERY)
    assert processor.push("a", frame(0))
    assert not processor.push("a", bad)
    assert processor.push("a", frame(2))
    indices = [result.frame.index for _ in range(2) if (result := results.take(WAIT_S))]
    assert indices == [0, 2]
    assert processor.counts("a").dropped == {"bad_frame": 1}


def test_a_pipeline_that_raises_ends_only_its_own_stream(processor: MultiStreamProcessor) -> None:
    broken, good = Client(), Client()
    processor.open_stream("broken", BrokenPipeline(), EVERY, broken)
    processor.open_stream("good", pipeline(), EVERY, good)
    processor.attach("broken", [frame(index) for index in range(10)])
    processor.attach("good", [frame(index) for index in range(10)])
    assert broken.indices == [0, 1]
    assert good.indices == list(range(10))
    error = broken.ends[0].error
    assert isinstance(error, StreamError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    with pytest.raises(StreamClosedError, match="open it first"):
        processor.push("broken", frame(99))


def test_a_client_that_raises_ends_only_its_own_stream(processor: MultiStreamProcessor) -> None:
    gone = threading.Event()

    def vanishing(event: LiveResult | StreamEnd) -> None:
        if isinstance(event, StreamEnd):
            gone.set()
        raise ConnectionError("the client is gone")

    good = Client()
    processor.open_stream("bad", pipeline(), EVERY, vanishing)
    processor.open_stream("good", pipeline(), EVERY, good)
    processor.push("bad", frame(0))
    processor.attach("good", [frame(index) for index in range(5)])
    assert good.indices == list(range(5))
    assert gone.wait(WAIT_S)


def test_a_source_that_fails_ends_its_stream_with_that_error_after_its_frames(
    processor: MultiStreamProcessor,
) -> None:
    def camera() -> Iterator[Frame]:
        yield frame(0)
        raise VideoError("the camera is gone; plug it in")

    results = processor.open_stream("a", pipeline(), EVERY)
    processor.attach("a", camera())
    taken: list[LiveResult] = []
    with pytest.raises(VideoError, match="plug it in"):
        taken.extend(results)
    assert [result.frame.index for result in taken] == [0]


def test_a_poisoned_frame_does_not_spoil_the_batch(
    processor: MultiStreamProcessor, detector: FakeDetector
) -> None:
    detector.is_free.clear()
    clients = [Client() for _ in range(5)]
    for index, client in enumerate(clients):
        processor.open_stream(str(index), pipeline(), EVERY, client)
        processor.push(str(index), frame(0, mark=POISON if index == 2 else 0))
    detector.is_free.set()
    for index in range(5):
        processor.attach(str(index), [frame(1)])
    assert [client.indices for client in clients] == [[0, 1], [0, 1], [1], [0, 1], [0, 1]]


def test_garbage_in_one_of_four_streams_leaves_the_results_of_the_others_unchanged() -> None:
    def results_beside(fourth: Sequence[Frame]) -> list[list[int]]:
        clients = [Client() for _ in range(4)]
        with MultiStreamProcessor(FakeDetector()) as processor:
            for index, client in enumerate(clients):
                processor.open_stream(str(index), pipeline(), EVERY, client)
            for index in range(3):
                processor.attach(str(index), [frame(number) for number in range(20)])
            processor.attach("3", fourth)
            return [client.indices for client in clients[:3]]

    garbage = [frame(n, mark=POISON) if n % 2 else frame(0, time_s=-1.0) for n in range(20)]
    assert results_beside(garbage) == results_beside([frame(number) for number in range(20)])


def test_a_stalled_source_holds_up_nobody_and_close_ends_it(detector: FakeDetector) -> None:
    class Stalled:
        def __init__(self) -> None:
            self.is_closed = threading.Event()

        def __iter__(self) -> Iterator[Frame]:
            yield frame(0)
            assert self.is_closed.wait(WAIT_S)

        def close(self) -> None:
            self.is_closed.set()

    n_before = threading.active_count()
    stalled, live = Client(), Client()
    with MultiStreamProcessor(detector) as processor:
        processor.open_stream("stalled", pipeline(), EVERY, stalled)
        processor.open_stream("live", pipeline(), EVERY, live)
        processor.attach("stalled", Stalled())
        processor.attach("live", [frame(index) for index in range(30)])
        assert live.indices == list(range(30))
    assert threading.active_count() == n_before
    assert [end.error for end in stalled.ends] == [None]


def test_a_slow_client_gets_the_newest_result_and_the_loss_is_counted(
    processor: MultiStreamProcessor,
) -> None:
    results = processor.open_stream("slow", pipeline())
    done = Client()
    processor.open_stream("clock", pipeline(), EVERY, done)
    for index in range(3):
        processor.push("slow", frame(index))
        while processor.counts("slow").in_flight:
            processor.push("clock", frame(len(done.results) + 1))
    newest = results.take(WAIT_S)
    assert newest is not None
    assert newest.frame.index == 2
    counts = processor.counts("slow")
    assert (counts.delivered, counts.dropped) == (1, {"backpressure": 2})


def test_a_lossless_stream_waits_for_its_client(processor: MultiStreamProcessor) -> None:
    results = processor.open_stream("file", pipeline(), StreamConfig(policy="every_frame"))
    processor.attach("file", [frame(index) for index in range(50)])
    assert [result.frame.index for result in results] == list(range(50))


def test_suspended_and_slowed_streams_drop_for_want_of_memory(
    detector: FakeDetector,
) -> None:
    now_s = [0.0]
    client = Client()
    with MultiStreamProcessor(detector, clock=lambda: now_s[0]) as processor:
        processor.open_stream("a", pipeline(), sink=client)
        processor.suspend("a")
        assert not processor.push("a", frame(0))
        processor.resume("a")
        processor.set_max_fps("a", 10.0)
        accepted = []
        for index in range(1, 31):
            now_s[0] = index / 30.0
            accepted.append(processor.push("a", frame(index)))
        assert sum(accepted) == 10
        assert processor.counts("a").dropped["vram"] == 21
        state = processor.stream_states()[0]
        assert (state.stream_id, state.max_fps, state.is_suspended) == ("a", 10.0, False)
        assert state.fps == pytest.approx(30.0, rel=0.1)


def test_an_idle_stream_is_closed_with_its_reason(detector: FakeDetector) -> None:
    now_s = [0.0]
    idle, config = Client(), ProcessorConfig(idle_s=5.0)
    with MultiStreamProcessor(detector, config, clock=lambda: now_s[0]) as processor:
        processor.open_stream("idle", pipeline(), sink=idle)
        now_s[0] = 6.0
        processor.open_stream("new", pipeline(), EVERY)
        processor.push("new", frame(0))
        assert idle.has_ended.wait(WAIT_S)
        assert [state.stream_id for state in processor.stream_states()] == ["new"]
    assert isinstance(idle.ends[0].error, StreamIdleError)


def test_closing_accounts_for_every_frame_and_tells_every_client(detector: FakeDetector) -> None:
    observer = CountingObserver()
    clients = [Client() for _ in range(4)]
    with MultiStreamProcessor(detector, observer=observer) as processor:
        for index, client in enumerate(clients):
            processor.open_stream(str(index), pipeline(), sink=client)
        for number in range(50):
            for index in range(4):
                processor.push(str(index), frame(number))
            while number == 0 and not all(client.results for client in clients):
                detector.is_called.wait(WAIT_S)
    n_results = sum(len(client.results) for client in clients)
    assert n_results + sum(observer.drops.values()) == 200
    assert observer.stages["end_to_end"] == observer.stages["analyse"] == n_results
    assert [len(client.ends) for client in clients] == [1] * 4
    assert observer.n_live[-1] == 0


def test_a_closed_processor_takes_no_stream_and_closes_twice(detector: FakeDetector) -> None:
    processor = MultiStreamProcessor(detector)
    processor.close()
    processor.close()
    with pytest.raises(StreamClosedError, match="make a new one"):
        processor.open_stream("a", pipeline())


def test_a_closed_stream_can_be_opened_again(processor: MultiStreamProcessor) -> None:
    first, second = Client(), Client()
    processor.open_stream("a", pipeline(), sink=first)
    with pytest.raises(ValueError, match="each its own name"):
        processor.open_stream("a", pipeline(), sink=second)
    processor.close_stream("a")
    assert first.has_ended.wait(WAIT_S)
    processor.open_stream("a", pipeline(), sink=second)
    processor.attach("a", [frame(0)])
    assert second.indices == [0]


def test_a_detector_without_memory_gets_smaller_batches() -> None:
    class Small(FakeDetector):
        def detect(self, frames: Sequence[Frame]) -> list[PoseDetections]:
            if len(frames) > 2:
                raise DetectorError("CUDA out of memory")
            return super().detect(frames)

    small = Small()
    small.is_free.clear()
    clients = [Client() for _ in range(8)]
    with MultiStreamProcessor(small) as processor:
        for index, client in enumerate(clients):
            processor.open_stream(str(index), pipeline(), EVERY, client)
        for index in range(8):
            processor.push(str(index), frame(0))
        small.is_free.set()
        for index in range(8):
            processor.attach(str(index), [frame(1)])
        assert [client.indices for client in clients] == [[0, 1]] * 8
    assert max(small.batches) <= 2


def test_closing_is_bounded_even_if_the_detector_never_returns(
    detector: FakeDetector, caplog: pytest.LogCaptureFixture
) -> None:
    n_before = threading.active_count()
    observer, client = CountingObserver(), Client()
    detector.is_free.clear()
    processor = MultiStreamProcessor(detector, observer=observer)
    processor.open_stream("a", pipeline(), sink=client)
    processor.push("a", frame(0))
    assert detector.is_called.wait(WAIT_S)
    processor.close(timeout_s=0.05)
    assert client.has_ended.is_set()
    assert observer.drops == {"closed": 1}
    assert "still at work" in caplog.text
    detector.is_free.set()
    for thread in threading.enumerate():
        if thread.name.startswith(("scheduler", "analysis")):
            thread.join(WAIT_S)
    assert threading.active_count() == n_before
    assert client.results == []


def test_a_name_that_is_not_open_and_a_limit_of_no_frames_are_refused(
    processor: MultiStreamProcessor,
) -> None:
    processor.open_stream("a", pipeline())
    for call in (processor.suspend, processor.resume, processor.counts):
        with pytest.raises(StreamClosedError, match="is not open"):
            call("b")
    with pytest.raises(ValueError, match="above 0"):
        processor.set_max_fps("a", 0.0)
    processor.close_stream("b")
