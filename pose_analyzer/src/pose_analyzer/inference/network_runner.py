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
"""Runs before a recording: libraries choose their kernels and take their memory in these. One more
is measured."""
_MARGIN: Final = 1.1
"""Memory that must be free for a recording, in times of what the same run took (chosen by us)."""
_RETRIES: Final = "num_alloc_retries"
"""PyTorch's count of allocations that had to wait until unused memory was given back."""


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

        pictures = torch.zeros(
            (shape[0], 3, *shape[1:]), dtype=self._dtype, device=self._device
        ).contiguous(memory_format=torch.channels_last)
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
        """Run a few times as in a recording; return whether there is memory to record.

        Memory must not run out in a recording: cuDNN would look for another kernel, which ends
        it, and what it had taken would never come back.
        """
        import torch

        for _ in range(_REHEARSALS):
            self._calculate(pictures)
        need = bytes_taken(lambda: self._calculate(pictures), self._device)
        if need is None:
            return False
        try:
            torch.empty(int(_MARGIN * need), dtype=torch.uint8, device=self._device)
        except torch.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

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


def bytes_taken(run: Callable[[], object], device: torch.device) -> int | None:
    """Return the GPU memory that PyTorch reserves for a run when it holds none in reserve.

    None if memory was so short that it gave some back during the run. A recording, which takes
    its memory anew and gives none back, needs as much as it takes here.
    """
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    retries = torch.cuda.memory_stats(device).get(_RETRIES, 0)
    run()
    torch.cuda.synchronize(device)
    taken = torch.cuda.memory_reserved(device) - before
    is_short = torch.cuda.memory_stats(device).get(_RETRIES, 0) != retries
    torch.cuda.empty_cache()
    return None if is_short else taken
