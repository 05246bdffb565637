"""A pose network on fixed buffers: one recorded CUDA graph for each shape of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pose_analyzer.inference.device_decode import Cells, DecodeConfig, decode_on_device
from pose_analyzer.inference.network_precision import Precision, library_choices, move_network
from pose_analyzer.inference.pose_network import PoseNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor

InputShape: TypeAlias = tuple[int, int, int]
"""Pictures, height and width of a batch."""
_REHEARSALS: Final = 2
"""Runs before a recording: libraries choose their kernels and take their memory in these."""
_SPARE_BYTES: Final = 1 << 25
"""Memory that must be left when a recording has all that it takes: PyTorch takes it from the GPU in
pieces of 2 and 20 MiB, which another order of requests may fill otherwise (chosen by us)."""
_COMMON_POOL: Final = (0, 0)
"""PyTorch's name for the memory that belongs to no recording."""
_RETRIES: Final = "num_alloc_retries"
"""PyTorch's count of requests for which it first gave unused memory back."""


@dataclass(slots=True)
class _Prepared:
    """The buffers of one shape, and the graph that leads from one to the other, if recorded."""

    pictures: Tensor
    people: Tensor | None = None
    graph: torch.cuda.CUDAGraph | None = None


class NetworkRunner:
    """A network and the decoding of its output, for batches of a few fixed shapes.

    On a GPU the work of each shape is recorded once, at its first use or by `prepare`, and then
    started by one call. On a CPU it is done step by step, as on a GPU without the memory to record
    a single picture. All calls belong on one stream.

    Parameters
    ----------
    network : PoseNetwork
        Taken over: moved to the device, and to half precision if asked for.
    device : torch.device
        ``cpu`` or ``cuda:N``.
    config : DecodeConfig
        What is kept of the output.
    precision : str
        As `Precision`.
    is_compiled : bool
        Whether PyTorch's compiler fuses the layers.
    """

    def __init__(
        self,
        network: PoseNetwork,
        device: torch.device,
        config: DecodeConfig,
        precision: Precision = "fp32",
        *,
        is_compiled: bool = False,
    ) -> None:
        import torch

        self._precision: Precision = precision
        # The compiler joins layers in its own way.
        is_fused = device.type == "cuda" and not is_compiled
        self._dtype = move_network(network, device, precision, is_fused=is_fused)
        if is_compiled:
            network.module.compile(mode="max-autotune-no-cudagraphs", dynamic=False)
        self._network = network
        self._device = device
        self._config = config
        self._cells: dict[tuple[int, int], Cells] = {}
        self._prepared: dict[InputShape, _Prepared] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def pictures(self, shape: InputShape) -> Tensor:
        """Return where the pictures of the next `run` of this shape are to be written.

        A tensor of shape (B, 3, H, W), channels last, RGB in [0, 1]. The first call for a shape
        records its graph.
        """
        if shape not in self._prepared:
            self.prepare(shape)
        return self._prepared[shape].pictures

    def run(self, shape: InputShape) -> Tensor:
        """Return the people in `pictures`, as `decode_on_device` gives them.

        On a GPU the tensor is overwritten by the next run of the same shape.
        """
        prepared = self._prepared[shape]
        if prepared.graph is None or prepared.people is None:
            is_cuda = self._device.type == "cuda"
            with library_choices(self._precision) if is_cuda else contextlib.nullcontext():
                return self._calculate(prepared.pictures)
        prepared.graph.replay()
        return prepared.people

    def prepare(self, shape: InputShape) -> None:
        """Take the buffers of a shape and record its graph.

        If memory does for a single picture but not for its graph, it is done without.

        Raises
        ------
        RuntimeError
            If there is not enough memory, as PyTorch and its libraries say it.
        """
        import torch

        pictures = torch.empty(
            (shape[0], 3, *shape[1:]),
            dtype=self._dtype,
            device=self._device,
            memory_format=torch.channels_last,
        ).zero_()
        prepared = _Prepared(pictures)
        if self._device.type == "cuda":
            with library_choices(self._precision):
                if self._rehearse(pictures):
                    self._record(prepared)
                elif shape[0] > 1:
                    raise torch.OutOfMemoryError(
                        f"there is not enough GPU memory to record a batch of {shape[0]}"
                    )
        self._prepared[shape] = prepared

    def forget(self) -> None:
        """Free all graphs and buffers; nothing may be running."""
        import torch

        self._prepared.clear()
        self._cells.clear()
        if self._pool is not None:
            self._pool = torch.cuda.graph_pool_handle()

    def _rehearse(self, pictures: Tensor) -> bool:
        """Run a few times; return whether there is memory to record."""
        for _ in range(_REHEARSALS):
            self._calculate(pictures)
        return has_room(lambda: self._calculate(pictures), self._device)

    def _record(self, prepared: _Prepared) -> None:
        import torch

        graph = torch.cuda.CUDAGraph()
        # Another thread may use the GPU meanwhile; only this one must hold still.
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",
        ):
            prepared.people = self._calculate(prepared.pictures)
        prepared.graph = graph

    def _calculate(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[2:]
        if (height, width) not in self._cells:
            self._cells[height, width] = Cells.of_input(
                height, width, self._network.strides, self._device
            )
        return decode_on_device(*self._network(pictures), self._cells[height, width], self._config)


def has_room(run: Callable[[], object], device: torch.device) -> bool:
    """Return whether there is GPU memory to record a run, which is done once to find out.

    Memory must not run out in a recording: cuDNN would look for another kernel, which ends the
    recording before PyTorch has closed its pool, and then PyTorch gives no memory back any more.
    """
    import torch

    need = _bytes_taken(run, device)
    if need is None:
        return False
    try:
        # Freed at once: the recording takes it.
        torch.empty(need + _SPARE_BYTES, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _bytes_taken(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the most GPU memory that a run takes; None if there was hardly enough.

    A recording takes all its memory anew. A run may use what PyTorch has free between tensors, so
    that is counted as taken. If PyTorch had to give some back during the run, nothing is known.
    """
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    between = sum(
        segment["total_size"] - segment["active_size"]
        for segment in torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        if tuple(segment["segment_pool_id"]) == _COMMON_POOL
    )
    reserved = torch.cuda.memory_reserved(device)
    retries = torch.cuda.memory_stats(device)[_RETRIES]
    run()
    torch.cuda.synchronize(device)
    taken = torch.cuda.memory_reserved(device) - reserved
    is_known = torch.cuda.memory_stats(device)[_RETRIES] == retries
    torch.cuda.empty_cache()
    return taken + between if is_known else None
