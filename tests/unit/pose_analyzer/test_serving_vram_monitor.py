"""vram_monitor: what is read, and what happens when nothing can be."""

from __future__ import annotations

import logging
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest

from pose_analyzer.errors import VramError
from pose_analyzer.serving.vram_monitor import (
    NvmlReader,
    SimulatedReader,
    VramMonitor,
    VramReading,
    open_vram_monitor,
)

GIB = 1 << 30


class FakeNvml(ModuleType):
    """The few calls of pynvml that are made, of a machine with one GPU of 8 GiB."""

    class NVMLError(Exception):
        """As pynvml names it."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.used_bytes = 2 * GIB
        self.is_lost = False

    def nvmlInit(self) -> None:  # noqa: N802
        """Succeed."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index != 0:
            raise self.NVMLError("Invalid Argument")
        return "handle"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle"
        if self.is_lost:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(used=self.used_bytes, total=8 * GIB)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.usefixtures("no_torch")
def test_nvml_is_read_where_it_is_installed(nvml: FakeNvml) -> None:
    monitor = open_vram_monitor()
    assert monitor.read() == VramReading(2 * GIB, 8 * GIB)
    nvml.used_bytes = 6 * GIB
    reading = monitor.read()
    assert reading is not None
    assert reading.share == pytest.approx(0.75)
    assert monitor.problem is None


@pytest.mark.usefixtures("nvml")
def test_an_unknown_gpu_is_one_sentence_that_names_it() -> None:
    with pytest.raises(VramError, match=r"GPU 3 \(Invalid Argument\); check with nvidia-smi"):
        NvmlReader(3)


def test_a_gpu_that_is_lost_is_not_measured_until_it_is_back(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = VramMonitor(NvmlReader())
    nvml.is_lost = True
    with caplog.at_level(logging.INFO):
        assert [monitor.read() for _ in range(3)] == [None] * 3
        assert "GPU is lost" in str(monitor.problem)
        nvml.is_lost = False
        assert monitor.read() is not None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert monitor.problem is None


def test_a_gpu_that_says_nonsense_is_not_measured(nvml: FakeNvml) -> None:
    monitor = VramMonitor(NvmlReader())
    nvml.used_bytes = 9 * GIB
    assert monitor.read() is None
    assert "cannot be" in str(monitor.problem)


@pytest.mark.usefixtures("no_torch")
def test_without_any_library_nothing_is_measured_and_the_reason_names_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monitor = open_vram_monitor()
    assert monitor.read() is None
    assert "nvidia-ml-py" in str(monitor.problem)
    assert "PyTorch" in str(monitor.problem)


def test_cuda_is_asked_where_nvml_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(  # type: ignore[attr-defined]  # a stand-in
        device_count=lambda: 1,
        get_device_properties=lambda _: SimpleNamespace(),
        mem_get_info=lambda _: (3 * GIB, 8 * GIB),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_vram_monitor().read() == VramReading(5 * GIB, 8 * GIB)


def test_a_simulated_gpu_reads_and_fails_as_it_is_told() -> None:
    shares = iter([0.5, math.nan, 1.0])
    monitor = VramMonitor(SimulatedReader(lambda: next(shares), total_bytes=100))
    assert [monitor.read() for _ in range(3)] == [VramReading(50, 100), None, VramReading(100, 100)]


@pytest.mark.parametrize(("used", "total"), [(-1, 8), (9, 8), (0, 0)])
def test_an_impossible_reading_is_refused(used: int, total: int) -> None:
    with pytest.raises(ValueError, match="used_bytes must be"):
        VramReading(used, total)
