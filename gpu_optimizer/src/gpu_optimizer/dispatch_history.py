"""The storages that a program makes on a CPU, seen at every operator, with tags.

What a CUDA allocator would have been asked for by the same operators; workspaces inside of an
operator are not seen, and the CPU's kernels may make other temporary tensors than those of CUDA.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Final

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_optimizer.memory_walk import replay_walk
from gpu_optimizer.recording import Attribution, Recording
from gpu_optimizer.types import AllocationEvent, AllocationTrace

SOURCE: Final = "cpu dispatch"
# torch.tensor() makes a tensor out of sight and hands it over to this operator.
_LIFT_FRESH: Final = torch.ops.aten.lift_fresh.default
_ELSEWHERE: Final = "other||"
_FORGOTTEN: Final = "event over the limit"


class DispatchHistory:
    """Records which storages live, from operators.

    Parameters
    ----------
    max_entries : int
        The most events that are kept; those after it are counted and forgotten.
    clock_ns : callable
        Nanoseconds, rising.
    """

    def __init__(self, max_entries: int, clock_ns: Callable[[], int] = perf_counter_ns) -> None:
        self.attribution: Attribution = "dispatch"
        self._max_entries = max_entries
        self._clock_ns = clock_ns
        self._mode = _Observer(self)
        self._tag = ""
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._blocks: dict[int, tuple[int, int]] = {}
        self._addresses: list[int] = []
        self._from_before: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._initial: list[AllocationEvent] = []
        self._events: list[AllocationEvent] = []
        self._n_lost = 0
        self._is_recording = False

    def put(self, tag: str) -> None:
        """Say where the program is from now on."""
        self._tag = tag

    def start(self, known: Iterable[torch.Tensor] = ()) -> None:
        """Begin to record; the storages of `known` were there before."""
        for tensor in known:
            self.see(tensor, is_new=False)
        self._from_before = {
            tensor.untyped_storage()._cdata: weakref.ref(tensor.untyped_storage())
            for tensor in gc.get_objects()
            if type(tensor) in {torch.Tensor, nn.Parameter} and tensor.layout == torch.strided
        }
        self._is_recording = True
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> Recording:
        """End the recording; nothing is held afterwards."""
        self.cancel()
        trace = AllocationTrace(
            (*self._initial, *self._events),
            device="cpu",
            source=SOURCE,
            n_initial=len(self._initial),
            is_truncated=bool(self._initial),
            dropped=((_FORGOTTEN, self._n_lost),) if self._n_lost else (),
        )
        walk = partial(replay_walk, trace)
        return Recording(trace, tuple(self._addresses), walk, self.attribution, self._n_lost)

    def cancel(self) -> None:
        """End the recording without reading it."""
        if self._is_recording:
            self._is_recording = False
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._references.clear()
        self._blocks.clear()
        self._from_before.clear()

    def see(self, tensor: torch.Tensor, *, is_new: bool) -> None:
        """Book the storage of a tensor unless it is known.

        One that was not made by an operator came from before the trace, or from where no operator
        is seen, as from NumPy or from another thread.
        """
        if tensor.layout != torch.strided:
            return
        storage = tensor.untyped_storage()
        if storage.device.type != "cpu":  # That of a fake tensor is on no device.
            return
        key, n_bytes = storage._cdata, storage.nbytes()
        known = self._blocks.get(key)
        if (known is not None and known[1] == n_bytes) or n_bytes == 0:
            return
        if known is not None:
            self._free(key)  # It was resized.
        if len(self._events) >= self._max_entries:
            self._n_lost += 1
            return
        block = len(self._addresses)
        self._addresses.append(storage.data_ptr())
        self._blocks[key] = block, n_bytes
        self._references[key] = weakref.ref(storage, lambda _: self._free(key))
        if is_new or known is not None:
            self._events.append(self._event("alloc", block, n_bytes, self._tag))
        elif self._was_before(key, storage):
            self._initial.append(AllocationEvent("alloc", block, n_bytes))
        else:
            self._events.append(self._event("alloc", block, n_bytes, _ELSEWHERE))

    def _was_before(self, key: int, storage: torch.UntypedStorage) -> bool:
        """Return whether a storage that no operator made was there when the trace began."""
        if not self._is_recording or self._tag.startswith("backward"):
            return True  # What autograd saved is no object of Python.
        reference = self._from_before.get(key)
        return reference is not None and reference() is storage

    def _free(self, key: int) -> None:
        block, n_bytes = self._blocks.pop(key)
        del self._references[key]
        # A free is always kept: a block that was booked must not seem to live on.
        self._events.append(self._event("free", block, n_bytes, self._tag))

    def _event(self, kind: str, block: int, n_bytes: int, tag: str) -> AllocationEvent:
        time_us = self._clock_ns() / 1000
        return AllocationEvent(kind, block, n_bytes, tag=tag, time_us=time_us)  # type: ignore[arg-type]


class _Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator."""

    def __init__(self, history: DispatchHistory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._history = history

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        for value in pytree.tree_leaves((args, given)):
            if isinstance(value, torch.Tensor):
                self._history.see(value, is_new=func is _LIFT_FRESH)
        output = func(*args, **given)
        for value in pytree.tree_leaves(output):
            if isinstance(value, torch.Tensor):
                self._history.see(value, is_new=True)
        return output
