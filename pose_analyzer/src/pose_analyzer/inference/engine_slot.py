"""One batch on its way through the engine: its buffers, its copies, and when each step was done."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from pose_analyzer.inference.device_decode import ROW
from pose_analyzer.inference.device_letterbox import (
    N_LAYOUT,
    aligned,
    layout,
    packing_for,
    unpacked,
)
from pose_analyzer.inference.packing_crew import PackingCrew, PackingJob, packing_jobs
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.types import ImageArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Mark = Literal["begun", "letterboxed", "decoded", "fetched"]
"""What a batch has behind it."""
_MARKS: Final[tuple[Mark, ...]] = ("begun", "letterboxed", "decoded", "fetched")
_GROWTH_BYTES: Final = 1 << 22


Picture: TypeAlias = "ImageArray | Tensor"
"""A uint8 array of shape (H, W, 3), BGR, on the host; or a uint8 tensor of shape (3, H, W), RGB, on
the engine's device."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the work of a batch is queued on a GPU; no streams on a CPU."""

    device: torch.device
    copying: torch.cuda.Stream | None
    computing: torch.cuda.Stream | None

    @classmethod
    def of(cls, device: torch.device) -> Streams:
        """Return new streams of a device."""
        import torch

        if device.type != "cuda":
            return cls(device, None, None)
        copying, computing = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
        return cls(device, copying, computing)

    def after_caller(self) -> None:
        """Let the copies wait for what the caller has queued, such as the making of pictures."""
        import torch

        if self.copying is not None:
            self.copying.wait_stream(torch.cuda.current_stream(self.device))

    @contextlib.contextmanager
    def on_computing(self) -> Iterator[None]:
        """Queue on the stream of the network, and keep no record for training."""
        import torch

        with torch.inference_mode(), torch.cuda.stream(self.computing):
            yield

    def wait(self) -> None:
        """Wait until nothing runs on the device."""
        import torch

        if self.computing is not None:
            torch.cuda.synchronize(self.device)

    def free_unused(self) -> None:
        """Give unused memory back to the GPU; nothing may be running."""
        import torch

        if self.computing is not None:
            # Modules and graphs refer to each other in circles.
            gc.collect()
            torch.cuda.empty_cache()


class Marks:
    """When a batch passed its steps, by the GPU's own clock where there is one."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._events: dict[Mark, torch.cuda.Event] = {}
        if device.type == "cuda":
            for mark in _MARKS:
                self._events[mark] = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._times_s: dict[Mark, float] = {}

    def set(self, mark: Mark, stream: torch.cuda.Stream | None) -> None:
        """Note that all work queued so far leads up to a mark."""
        if stream is None:
            self._times_s[mark] = time.perf_counter()
        else:
            self._events[mark].record(stream)

    def wait(self) -> None:
        """Block until the batch is back on the host; other threads run meanwhile."""
        if self._events:
            self._events["fetched"].synchronize()

    def seconds(self, start: Mark, end: Mark) -> float:
        """Return the time between two marks of a batch that is back."""
        if self._events:
            return float(self._events[start].elapsed_time(self._events[end])) * 1e-3
        return self._times_s[end] - self._times_s[start]


class Slot:
    """Buffers for one batch at a time.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    streams : Streams
        Shared by the slots of an engine.
    max_batch, max_people : int
        Most pictures, and people of each, that come back.
    """

    def __init__(
        self, device: torch.device, streams: Streams, max_batch: int, max_people: int
    ) -> None:
        import torch

        self.marks = Marks(device)
        self.boxes: list[Letterbox] = []
        self._held: list[Tensor] = []
        self._device = device
        self._streams = streams
        self._is_cuda = device.type == "cuda"
        self._sent = torch.empty(0, dtype=torch.uint8)
        self._received = self._sent
        self._layouts_sent = torch.empty(
            (max_batch, N_LAYOUT), dtype=torch.int32, pin_memory=self._is_cuda
        )
        self._layouts_received = torch.empty_like(self._layouts_sent, device=device)
        self._people = torch.empty(
            (max_batch, max_people, ROW), dtype=torch.float32, pin_memory=self._is_cuda
        )

    @property
    def packed(self) -> Tensor:
        """The packed pictures on the device, flat."""
        return self._received

    @property
    def layouts(self) -> Tensor:
        """What describes each of them, on the device."""
        return self._layouts_received

    def send(
        self, pictures: Sequence[Picture], boxes: Sequence[Letterbox], crew: PackingCrew
    ) -> list[tuple[int, ...]]:
        """Pack pictures and queue their copies to the device; return their layouts.

        Parameters
        ----------
        pictures : sequence of Picture
        boxes : sequence of Letterbox
            One for each.
        crew : PackingCrew
            Who packs.
        """
        import torch

        packings = [
            packing_for(box) if isinstance(picture, np.ndarray) else unpacked(box)
            for picture, box in zip(pictures, boxes, strict=True)
        ]
        offsets = [0]
        for packing in packings:
            offsets.append(offsets[-1] + aligned(packing.n_bytes))
        self._reserve(offsets.pop())
        self.marks.set("begun", self._streams.copying)
        layouts = [layout(*each) for each in zip(boxes, packings, offsets, strict=True)]
        host = self._sent.numpy()
        jobs: list[PackingJob] = []
        self._held = []
        with torch.cuda.stream(self._streams.copying):
            self._send_layouts(layouts)
            for picture, packing, offset in zip(pictures, packings, offsets, strict=True):
                if isinstance(picture, np.ndarray):
                    target = host[offset : offset + packing.n_bytes]
                    n_parts = crew.parts_each(len(pictures))
                    jobs += packing_jobs(picture, packing, target, offset, n_parts)
                else:
                    self._copy_across(picture, offset)
            # Each part leaves as soon as it is packed, while others still are.
            for job in crew.run(jobs):
                self._copy_up(job.start, job.end)
        return layouts

    def fetch(self, people: Tensor) -> None:
        """Queue the copy of the results to the host."""
        self._people[: len(people)].copy_(people, non_blocking=True)

    def people(self, n_pictures: int) -> Tensor:
        """Return the results on the host, shape (B, max_people, 56), valid until the next batch."""
        return self._people[:n_pictures]

    def shrink(self) -> None:
        """Free the buffers of the pictures; they come back as needed."""
        import torch

        self._sent = self._received = torch.empty(0, dtype=torch.uint8)

    def _reserve(self, n_bytes: int) -> None:
        import torch

        if n_bytes <= len(self._received):
            return
        self.shrink()
        size = -(-n_bytes // _GROWTH_BYTES) * _GROWTH_BYTES
        sent = torch.empty(size, dtype=torch.uint8, pin_memory=self._is_cuda)
        received = torch.empty(size, dtype=torch.uint8, device=self._device)
        self._sent = sent
        self._received = received if self._is_cuda else sent
        if self._streams.copying is not None and self._streams.computing is not None:
            # What had this memory before may still be running on the other stream.
            self._streams.copying.wait_stream(self._streams.computing)

    def _send_layouts(self, layouts: Sequence[tuple[int, ...]]) -> None:
        n = len(layouts)
        self._layouts_sent.numpy()[:n] = layouts
        self._layouts_received[:n].copy_(self._layouts_sent[:n], non_blocking=True)

    def _copy_across(self, picture: Tensor, offset: int) -> None:
        """Write a picture that is on the device, RGB planes, as BGR pixels."""
        # Its memory must not be used again before it is read.
        self._held.append(picture)
        _, height, width = picture.shape
        target = self._received[offset : offset + picture.numel()].view(height, width, 3)
        target.copy_(picture.flip(0).permute(1, 2, 0), non_blocking=True)

    def _copy_up(self, start: int, end: int) -> None:
        if self._is_cuda:
            self._received[start:end].copy_(self._sent[start:end], non_blocking=True)
