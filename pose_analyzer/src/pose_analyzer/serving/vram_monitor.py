"""How full the memory of one GPU is: from NVML, else from CUDA, else not measured.

NVML sees every process on the GPU and costs no CUDA context. It counts GPUs in the order of the bus
and knows nothing of ``CUDA_VISIBLE_DEVICES``, so a GPU is found by its UUID wherever CUDA tells it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pose_analyzer.errors import VramError

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VramReading:
    """The memory of a GPU at one moment.

    Attributes
    ----------
    used_bytes : int
        Taken by all processes together, in [0, total_bytes].
    total_bytes : int
        What the GPU has, at least 1.
    """

    used_bytes: int
    total_bytes: int

    def __post_init__(self) -> None:
        if not 0 <= self.used_bytes <= self.total_bytes or self.total_bytes < 1:
            raise ValueError(
                "used_bytes must be in [0, total_bytes] and total_bytes at least 1, "
                f"got {self.used_bytes} of {self.total_bytes}"
            )

    @property
    def share(self) -> float:
        """Used of total, in [0, 1]."""
        return self.used_bytes / self.total_bytes


class VramReader(Protocol):
    """Anything that can tell how full a GPU's memory is."""

    def read(self) -> VramReading:
        """Return how full it is now; `VramError` if that cannot be told."""
        ...


class NvmlReader:
    """Reads by NVML, the library of the NVIDIA driver.

    Parameters
    ----------
    gpu : int or str
        The number of the GPU as ``nvidia-smi`` counts, or its UUID (``GPU-...``).

    Raises
    ------
    VramError
        If nvidia-ml-py or the driver is missing, or there is no such GPU.
    """

    def __init__(self, gpu: int | str = 0) -> None:
        self._nvml = _load_nvml()
        self._gpu = gpu
        try:
            self._nvml.nvmlInit()
            self._handle = (
                self._nvml.nvmlDeviceGetHandleByIndex(gpu)
                if isinstance(gpu, int)
                else self._nvml.nvmlDeviceGetHandleByUUID(gpu)
            )
        except self._nvml.NVMLError as exc:
            raise VramError(
                f"NVML gives no access to GPU {gpu} ({exc}); check with nvidia-smi that the driver "
                "runs and lists it"
            ) from exc

    def read(self) -> VramReading:
        """Return how full the memory is; `VramError` if NVML does not say."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except self._nvml.NVMLError as exc:
            raise VramError(
                f"NVML cannot read the memory of GPU {self._gpu} ({exc}); check it with nvidia-smi"
            ) from exc
        return _reading(int(memory.used), int(memory.total))


class TorchReader:
    """Reads by CUDA through PyTorch, where NVML is missing. It makes a CUDA context.

    Parameters
    ----------
    device_index : int
        The number of the GPU as CUDA counts.

    Raises
    ------
    VramError
        If PyTorch is missing or finds no such GPU.
    """

    def __init__(self, device_index: int = 0) -> None:
        try:
            import torch
        except ImportError as exc:
            raise VramError("PyTorch is not installed, so CUDA cannot be asked") from exc
        if not 0 <= device_index < torch.cuda.device_count():
            raise VramError(
                f"PyTorch finds no CUDA device {device_index}, only {torch.cuda.device_count()} "
                "of them; check CUDA_VISIBLE_DEVICES and the driver"
            )
        self._torch: ModuleType = torch
        self._device_index = device_index

    def read(self) -> VramReading:
        """Return how full the memory is; `VramError` if CUDA does not say."""
        try:
            free_bytes, total_bytes = self._torch.cuda.mem_get_info(self._device_index)
        except RuntimeError as exc:
            raise VramError(
                f"CUDA cannot read the memory of device {self._device_index} ({exc}); "
                "check it with nvidia-smi"
            ) from exc
        return _reading(int(total_bytes) - int(free_bytes), int(total_bytes))


class SimulatedReader:
    """A GPU that a test or a simulation makes up.

    Parameters
    ----------
    share : callable
        Called for each reading; returns used of total, or NaN where the reading shall fail.
    total_bytes : int
        The size of the GPU.
    """

    def __init__(self, share: Callable[[], float], total_bytes: int = 8 << 30) -> None:
        self._share = share
        self._total_bytes = total_bytes

    def read(self) -> VramReading:
        """Return the next reading; `VramError` where it is NaN."""
        share = self._share()
        if math.isnan(share):
            raise VramError("the simulated GPU cannot be read now")
        return _reading(round(share * self._total_bytes), self._total_bytes)


class VramMonitor:
    """Reads a GPU again and again, through bad times too.

    Parameters
    ----------
    reader : VramReader or None
        None where there is no GPU to read.
    problem : str or None
        Why there is none, for `problem`.
    """

    def __init__(self, reader: VramReader | None, problem: str | None = None) -> None:
        if reader is None and problem is None:
            problem = "there is no GPU whose memory could be read"
        self._reader = reader
        self._problem = problem

    @property
    def problem(self) -> str | None:
        """A sentence on why the last reading failed; None if it did not."""
        return self._problem

    def read(self) -> VramReading | None:
        """Return how full the memory is; None means not measured. Never raises `VramError`.

        The first failure after a success is logged, and so is the first success after it.
        """
        if self._reader is None:
            return None
        try:
            reading = self._reader.read()
        except VramError as exc:
            if self._problem is None:
                logger.warning("GPU memory is not watched: %s", exc)
            self._problem = str(exc)
            return None
        if self._problem is not None:
            logger.info("GPU memory is watched again")
            self._problem = None
        return reading


def open_vram_monitor(device_index: int = 0) -> VramMonitor:
    """Return a monitor of a CUDA device by the best reader that this machine has.

    Parameters
    ----------
    device_index : int
        As CUDA counts the GPUs. Without PyTorch it is taken as NVML's number.

    Notes
    -----
    Where nothing can be read the monitor measures nothing, and `VramMonitor.problem` says why.
    """
    try:
        return VramMonitor(NvmlReader(_uuid(device_index) or device_index))
    except VramError as nvml_error:
        problem = str(nvml_error)
    try:
        return VramMonitor(TorchReader(device_index))
    except VramError as torch_error:
        problem = f"{problem}; {torch_error}"
    logger.info("GPU memory is not watched: %s", problem)
    return VramMonitor(None, problem)


def _uuid(device_index: int) -> str | None:
    """Return how NVML calls a CUDA device; None if CUDA does not tell."""
    try:
        import torch
    except ImportError:
        return None
    if not 0 <= device_index < torch.cuda.device_count():
        return None
    uuid = getattr(torch.cuda.get_device_properties(device_index), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


def _reading(used_bytes: int, total_bytes: int) -> VramReading:
    """Return the reading of a device; what a device tells of itself may be impossible."""
    try:
        return VramReading(used_bytes, total_bytes)
    except ValueError as exc:
        raise VramError(
            f"the GPU says that {used_bytes} of {total_bytes} bytes are used, which cannot be; "
            "check it with nvidia-smi"
        ) from exc


def _load_nvml() -> ModuleType:
    try:
        import pynvml
    except ImportError as exc:
        raise VramError(
            "reading GPU memory by NVML needs nvidia-ml-py: pip install 'pose-analyzer[live]'"
        ) from exc
    module: ModuleType = pynvml
    return module
