"""Where the memory of a running model goes, by layer, phase and purpose."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Literal, Self

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gpu_optimizer.cuda_history import CudaHistory
from gpu_optimizer.dispatch_history import DispatchHistory
from gpu_optimizer.errors import DeviceError, TraceError
from gpu_optimizer.memory_profile import MemoryProfile
from gpu_optimizer.module_tags import ModuleTags
from gpu_optimizer.out_of_memory import is_out_of_host_memory, is_out_of_memory
from gpu_optimizer.profile_builder import build_profile
from gpu_optimizer.recording import Failure, Recording, StorageNames, state_tensors
from gpu_optimizer.report import html_page, profile_json, write_sqlite
from gpu_optimizer.report.whole_file import whole_file

MAX_ENTRIES: Final = 1_000_000
"""Chosen by us: some hundred steps of a large model, some 300 MB of host memory when read."""
_active: Final = Lock()
"""Held by the tracer that records, in whatever thread."""


class MemoryTracer:
    """Records the allocations of all that runs within ``with MemoryTracer(model) as trace:``.

    Parameters
    ----------
    model : nn.Module
        Whose layers are told apart. It is not changed and not kept.
    optimizer : Optimizer, optional
        Its state from before the trace is known as such from the start; one that steps within the
        trace is known then anyway.
    device : str or torch.device, optional
        ``"cuda"``, ``"cuda:1"`` or ``"cpu"``; by default that of the model's parameters. On a CPU
        every operator is looked at, which is slow, and the profile says so in its source.
    max_entries : int
        The most allocations and frees that are kept, at least 1; the profile tells how many more
        there were.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the device is neither, or `max_entries` is less than 1.
    DeviceError
        If there is no such CUDA device.

    Notes
    -----
    Entering raises `TraceError` if another tracer is active, or if this one was used. An exception
    within the trace goes on; what was recorded until then is kept. The CUDA device must be the
    current one.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        device: str | torch.device | None = None,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        _check_arguments(model, optimizer, max_entries)
        place = traceable_device(_device_of(model) if device is None else device)
        self._history: CudaHistory | DispatchHistory
        if place.type == "cuda":
            self._history = CudaHistory(place.index, max_entries)
        else:
            self._history = DispatchHistory(max_entries)
        self._model: nn.Module | None = model
        self._optimizer = optimizer
        self._steppers: dict[int, Optimizer] = {}
        self._names = StorageNames()
        self._tags: ModuleTags | None = None
        self._recording: Recording | None = None
        self._profile: MemoryProfile | None = None
        self._error = ""

    @property
    def profile(self) -> MemoryProfile:
        """What was recorded; TraceError before the end of the trace."""
        if self._profile is None:
            if self._recording is None:
                raise TraceError("the trace has no result: read it after the with block")
            self._profile = build_profile(self._recording, self._names, self._error)
            self._recording = None
        return self._profile

    def to_html(self, path: str | PathLike[str], title: str = "Memory profile") -> None:
        """Write one self-contained page; TraceError before the end of the trace."""
        _write(Path(path), html_page(self.profile, title))

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the profile without single events; TraceError before the end of the trace."""
        _write(Path(path), profile_json(self.profile))

    def to_sqlite(self, path: str | PathLike[str]) -> None:
        """Write a database with every event; TraceError before the end of the trace."""
        write_sqlite(self.profile, Path(path))

    def __enter__(self) -> Self:
        if self._model is None or self._tags is not None:
            raise TraceError("a MemoryTracer records once: make a new one")
        if not _active.acquire(blocking=False):
            raise TraceError("another MemoryTracer is active: leave it before entering this one")
        try:
            self._start(self._model)
        except BaseException:
            self._history.cancel()
            _active.release()
            raise
        return self

    def _start(self, model: nn.Module) -> None:
        self._names.begin(model, self._optimizer)
        if self._optimizer is not None:
            self._steppers[id(self._optimizer)] = self._optimizer
        self._tags = ModuleTags(model, self._history.put, self._look_at)
        if isinstance(self._history, DispatchHistory):
            self._history.start(_tensors(model, self._optimizer))
        else:
            self._history.start()
        self._tags.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        model, self._model = self._model, None
        tags = self._tags
        try:
            if tags is not None:
                tags.__exit__(kind, error, trace)
            if model is not None:
                self._names.end(model, self._steppers.values())
            self._recording = _told(self._history.stop(), error)
        except RuntimeError:
            # After a failed kernel CUDA answers nothing more; the first error is the one to see.
            if kind is None:
                raise
        finally:
            self._history.cancel()
            self._optimizer = None
            self._steppers.clear()
            _active.release()
        self._error = "" if kind is None else kind.__name__
        return False

    def _look_at(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._steppers:
            self._steppers[id(optimizer)] = optimizer
            self._names.meet(optimizer)
        self._names.step(optimizer)


def _check_arguments(model: object, optimizer: object, max_entries: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {model!s:.80}")
    is_optimizer = hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")
    if optimizer is not None and not is_optimizer:
        raise TypeError(f"optimizer must be an Optimizer or None, got {optimizer!s:.80}")
    if not isinstance(max_entries, int):
        raise TypeError(f"max_entries must be an int, got {max_entries!r}")
    if max_entries < 1:
        raise ValueError(f"max_entries must be at least 1, got {max_entries}")


def traceable_device(name: str | torch.device) -> torch.device:
    """Return a device that can be traced, a CUDA device with its index.

    Raises
    ------
    ValueError
        If it is neither the CPU nor a CUDA device.
    DeviceError
        If there is no such CUDA device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cuda", "cpu"}:
        raise ValueError(f"device must be 'cuda', 'cuda:N' or 'cpu', got {str(name)!r}")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device is here: trace with device='cpu'")
    named: int | None = device.index
    index = torch.cuda.current_device() if named is None else named
    if index >= torch.cuda.device_count():
        n_devices = torch.cuda.device_count()
        raise DeviceError(f"there are {n_devices} CUDA devices, none of index {index}")
    return torch.device("cuda", index)


def _told(recording: Recording, error: BaseException | None) -> Recording:
    """Return a recording that says where memory ran out, even if nobody noted what was asked."""
    is_full = error is not None and (is_out_of_memory(error) or is_out_of_host_memory(error))
    if not is_full or recording.failure is not None:
        return recording
    return replace(recording, failure=Failure(len(recording.trace.events), None, None))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _device_of(model: nn.Module) -> torch.device:
    tensor = next((one for one in (*model.parameters(), *model.buffers())), None)
    if tensor is not None:
        return tensor.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _tensors(model: nn.Module, optimizer: Optimizer | None) -> list[torch.Tensor]:
    """Return what is there before a step, as far as it is known."""
    parameters = list(model.parameters())
    gradients = [one.grad for one in parameters if one.grad is not None]
    states = () if optimizer is None else state_tensors(dict(optimizer.state))
    tensors = [*parameters, *model.buffers(), *gradients, *states]
    return [one for one in tensors if not is_lazy(one)]
