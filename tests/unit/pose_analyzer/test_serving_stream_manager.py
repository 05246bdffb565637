"""StreamManager: who is let in, who is closed, and a squeeze of GPU memory from end to end."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pose_analyzer.errors import CapacityError, StreamClosedError
from pose_analyzer.metrics import PoseMetrics
from pose_analyzer.serving.load_shedding import SheddingPolicy
from pose_analyzer.serving.stream_manager import StreamManager, StreamManagerConfig
from pose_analyzer.serving.stream_state import StreamState
from pose_analyzer.serving.vram_monitor import SimulatedReader, VramMonitor

NO_GPU = VramMonitor(None)


class FakeProcessor:
    """Streams that send 30 frames a second and do as they are told."""

    def __init__(self, *stream_ids: str) -> None:
        self.states = {
            stream_id: StreamState(stream_id, 0, float(n), 30.0, None, False, None)
            for n, stream_id in enumerate(stream_ids)
        }
        self.looked = threading.Event()
        self.is_broken = False

    def stream_states(self) -> Sequence[StreamState]:
        self.looked.set()
        if self.is_broken:
            raise RuntimeError("broken")
        return list(self.states.values())

    def set_max_fps(self, stream_id: str, max_fps: float | None) -> None:
        self.states[stream_id] = replace(self.states[stream_id], max_fps=max_fps)

    def suspend(self, stream_id: str) -> None:
        self.states[stream_id] = replace(self.states[stream_id], is_suspended=True)

    def resume(self, stream_id: str) -> None:
        self.states[stream_id] = replace(self.states[stream_id], is_suspended=False)

    def close_stream(self, stream_id: str) -> None:
        del self.states[stream_id]

    def all_send(self, now_s: float) -> None:
        self.states = {k: replace(v, last_frame_s=now_s) for k, v in self.states.items()}

    def share(self, other_share: float) -> float:
        """Return used memory: others', and 3 % a stream of which half goes with its rate."""
        running = [state for state in self.states.values() if not state.is_suspended]
        rates = sum(min(state.max_fps or 30.0, 30.0) for state in running)
        return min(1.0, other_share + 0.015 * len(running) + 0.015 * rates / 30.0)


def manager_of(
    processor: FakeProcessor, vram: VramMonitor = NO_GPU, **limits: int
) -> StreamManager:
    config = StreamManagerConfig(**limits)
    return StreamManager(processor, vram, SheddingPolicy(), config=config)


def test_one_stream_too_many_is_refused_and_told_what_to_do() -> None:
    manager = manager_of(FakeProcessor("a", "b"), max_streams=2)
    with pytest.raises(CapacityError, match="close one or raise max_streams"), manager.admission():
        pytest.fail("it was admitted")
    assert manager.counts.n_refused == 1


def test_no_other_is_admitted_while_a_stream_opens() -> None:
    processor = FakeProcessor()
    manager = manager_of(processor, max_streams=1)
    refused: list[bool] = []

    def second() -> None:
        try:
            with manager.admission():
                refused.append(False)
        except CapacityError:
            refused.append(True)

    thread = threading.Thread(target=second)
    with manager.admission():
        thread.start()
        processor.states.update(FakeProcessor("a").states)
    thread.join()
    assert refused == [True]


def test_a_stream_that_could_fill_the_memory_is_refused() -> None:
    reader = SimulatedReader(lambda: 0.88, total_bytes=8 << 30)
    manager = manager_of(FakeProcessor(), VramMonitor(reader), stream_vram_bytes=1 << 30)
    with pytest.raises(CapacityError, match="90%"), manager.admission():
        pytest.fail("it was admitted")


def test_nobody_new_comes_in_while_others_are_slowed() -> None:
    shares = iter([0.93, 0.5])
    processor = FakeProcessor("a")
    manager = manager_of(processor, VramMonitor(SimulatedReader(lambda: next(shares))))
    manager.step(0.0)
    with pytest.raises(CapacityError, match="slowed or suspended"), manager.admission():
        pytest.fail("it was admitted")


def test_a_stream_without_frames_is_closed_and_the_others_stay() -> None:
    processor = FakeProcessor("gone", "new", "alive")
    processor.states["new"] = replace(processor.states["new"], opened_s=5.0)
    processor.states["alive"] = replace(processor.states["alive"], last_frame_s=9.0)
    manager = manager_of(processor, idle_after_s=10)
    manager.step(10.0)
    assert list(processor.states) == ["gone", "new", "alive"]
    manager.step(11.0)
    assert list(processor.states) == ["new", "alive"]
    assert (manager.counts.n_open, manager.counts.n_evicted) == (2, 1)


def test_idle_streams_are_looked_for_once_a_second() -> None:
    processor = FakeProcessor("gone")
    manager = manager_of(processor, idle_after_s=10)
    manager.step(9.5)
    manager.step(10.4)
    assert list(processor.states) == ["gone"]
    manager.step(10.5)
    assert list(processor.states) == []


def test_idle_streams_are_left_to_the_processor_by_default() -> None:
    processor = FakeProcessor("silent")
    manager = manager_of(processor)
    manager.step(1e6)
    assert manager.counts.n_evicted == 0
    assert list(processor.states) == ["silent"]


def test_cached_memory_is_released_after_giving_up_and_only_then() -> None:
    processor = FakeProcessor("a", "b")
    shares = [0.8, 0.92, 0.92, 0.5, 0.5]
    left = iter(shares)
    manager = manager_of(processor, VramMonitor(SimulatedReader(lambda: next(left))))
    released: list[list[float | None]] = []
    manager.on_shed = lambda: released.append([s.max_fps for s in processor.states.values()])
    for now_s in (0.0, 1.0, 1.1, 20.0, 60.0):
        manager.step(now_s)
    assert released == [[None, 15.0]]
    assert manager.counts.n_slowed == 0


def test_the_thread_survives_a_failure_and_ends_when_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    processor = FakeProcessor("a")
    processor.is_broken = True
    config = StreamManagerConfig(check_every_s=0.001)
    clock = iter(range(1_000_000))
    with StreamManager(
        processor, NO_GPU, SheddingPolicy(), config=config, clock=lambda: float(next(clock))
    ) as manager:
        manager.start()
        assert processor.looked.wait(5.0)
        processor.is_broken = False
        processor.looked.clear()
        assert processor.looked.wait(5.0)
    assert "a step of the stream manager failed" in caplog.text
    assert "stream manager" not in {thread.name for thread in threading.enumerate()}


def test_a_stream_that_closes_between_look_and_act_stops_nothing() -> None:
    class Racing(FakeProcessor):
        def set_max_fps(self, stream_id: str, max_fps: float | None) -> None:
            if stream_id == "gone":
                del self.states["gone"]
                raise StreamClosedError("gone")
            super().set_max_fps(stream_id, max_fps)

    processor = Racing("stays", "gone")
    manager = manager_of(processor, VramMonitor(SimulatedReader(lambda: 0.96)))
    manager.step(0.0)
    assert processor.states["stays"].max_fps == 15.0
    assert manager.counts.n_open == 1


@pytest.mark.parametrize("n_streams", [1, 4, 9])
def test_a_squeeze_to_95_percent_sheds_and_recovers_with_no_dead_stream(n_streams: int) -> None:
    processor = FakeProcessor(*(str(n) for n in range(n_streams)))
    before = {k: (v.max_fps, v.is_suspended) for k, v in processor.states.items()}
    calm_share = 0.30
    # What other processes take, so that all together is 95 % before anything is given up.
    squeeze_share = 0.95 - (processor.share(calm_share) - calm_share)
    other = {"share": calm_share}
    vram = VramMonitor(SimulatedReader(lambda: processor.share(other["share"])))
    metrics = PoseMetrics()
    manager = StreamManager(processor, vram, SheddingPolicy(), observer=metrics)
    slowed: set[int] = set()
    for second in range(600):
        other["share"] = squeeze_share if 60 <= second < 180 else calm_share
        processor.all_send(float(second))
        manager.step(float(second))
        counts = manager.counts
        assert counts.n_open == n_streams
        assert counts.n_suspended < n_streams
        slowed.add(counts.n_slowed)
        if second == 179 and n_streams > 1:
            assert processor.share(other["share"]) <= 0.90
    assert max(slowed) > 0
    assert {k: (v.max_fps, v.is_suspended) for k, v in processor.states.items()} == before
    assert f"pose_open_streams {float(n_streams)}" in metrics.render()


def test_memory_that_can_no_longer_be_read_is_told_once() -> None:
    shares = iter([0.5, math.nan, math.nan])
    metrics = PoseMetrics()
    manager = StreamManager(
        FakeProcessor(),
        VramMonitor(SimulatedReader(lambda: next(shares))),
        SheddingPolicy(),
        observer=metrics,
    )
    manager.step(0.0)
    assert "pose_vram_used_bytes NaN" not in metrics.render()
    manager.step(1.0)
    assert "pose_vram_used_bytes NaN" in metrics.render()


@pytest.mark.parametrize(
    "wrong", [{"max_streams": 0}, {"stream_vram_bytes": -1}, {"idle_after_s": 0.0}]
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        StreamManagerConfig(**wrong)
