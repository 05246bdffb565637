"""The batched pose engine: frames of any sizes in, one batch through the network, people out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.batch_cap import BatchCap
from pose_analyzer.inference.detector import StageListener
from pose_analyzer.inference.device_letterbox import letterbox_batch
from pose_analyzer.inference.engine_batch import (
    BATCH_SIZES,
    EngineConfig,
    Ticket,
    batch_size,
    has_memory_for,
    letterboxes,
    people_of_rows,
    require_pictures,
)
from pose_analyzer.inference.engine_slot import Picture, Slot, Streams
from pose_analyzer.inference.jpeg import JpegDecoder, jpeg_decoders
from pose_analyzer.inference.network_runner import InputShape, NetworkRunner
from pose_analyzer.inference.packing_crew import PackingCrew
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.types import Frame, PoseDetections

_N_SLOTS: Final = 2
_MOST_PACKERS: Final = 8


class PoseEngine:
    """A YOLO pose network that takes batches, on a GPU or, with the same code, on a CPU.

    The host packs the lines that the letterbox samples into pinned memory and copies them on a
    stream of its own; letterbox, network, decoding and suppression run on the device, the last
    three as one CUDA graph; one copy brings the people back. Two batches may be under way, so a
    caller who submits the next before collecting the last overlaps copies with the network.

    If the GPU's memory runs out, the largest batch halves, the frames are tried again in smaller
    batches, each of which may halve it again, and the event is counted; after
    ``recovery_batches`` it doubles again.

    One thread at a time.

    Parameters
    ----------
    network : PoseNetwork
        Taken over: moved to the device and to its precision.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    config : EngineConfig
        How to work.
    on_batch : callable, optional
        Called with the number of frames before each run of the network; what it raises counts as
        raised by the run. For tests of what happens without memory.

    Attributes
    ----------
    on_stage : callable or None
        Who is told how long each batch spent where, when it is collected. On a GPU, by its own
        clock. "preprocess" ends with the letterbox and includes the wait for the batch before.
    """

    def __init__(
        self,
        network: PoseNetwork,
        device: str = "cuda",
        config: EngineConfig | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        import torch

        self.on_stage: StageListener | None = None
        self._config = EngineConfig() if config is None else config
        self._device = torch.device(device)
        self._is_cuda = self._device.type == "cuda"
        self._stride = max(network.strides)
        self._on_batch = on_batch
        self._cap = BatchCap(self._config.max_batch, self._config.recovery_batches)
        self._streams = Streams.of(self._device)
        decode = self._config.decode
        self._runner = NetworkRunner(
            network,
            self._device,
            decode,
            self._config.precision if self._is_cuda else "fp32",
            is_compiled=self._config.is_compiled and self._is_cuda,
        )
        self._free = [
            Slot(self._device, self._streams, self._config.max_batch, decode.n_people)
            for _ in range(_N_SLOTS)
        ]
        # The other half of the cores decodes video and judges, while frames are packed.
        n_packers = min(_MOST_PACKERS, available_cores() // 2) if self._is_cuda else 1
        self._crew = PackingCrew(max(1, n_packers))

    @property
    def max_batch(self) -> int:
        """Most frames of one run now; less than configured while memory is short."""
        return self._cap.size

    @property
    def n_out_of_memory(self) -> int:
        """How often the GPU's memory ran out."""
        return self._cap.n_out_of_memory

    def warm_up(self, source_shape: tuple[int, ...] = (1080, 1920, 3)) -> None:
        """Record the graphs of all batch sizes for frames of one shape, the largest first.

        Without it, each is recorded when it is first used, which takes up to a second.
        """
        black = np.zeros(source_shape, dtype=np.uint8)
        (box,) = letterboxes([black], self._config, self._stride)
        for size in reversed(BATCH_SIZES):
            shape = (size, box.height, box.width)
            if size <= self._cap.size and not has_memory_for(partial(self._prepare, shape)):
                self._shrink(size)
        self.collect(self.submit([black]))

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame; raises what `infer_pictures` does."""
        return self.infer_pictures([frame.image for frame in frames])

    def infer_pictures(self, pictures: Sequence[Picture]) -> list[PoseDetections]:
        """Return the people of each picture, however many; those on the device may be mixed in.

        Raises
        ------
        DetectorError
            If the GPU's memory does not do for a single frame.
        """
        results: list[PoseDetections] = []
        pending: deque[Ticket] = deque()
        for start in range(0, len(pictures), size := self._cap.size):
            if not self._free:
                results += self.collect(pending.popleft())
            pending.append(self.submit(pictures[start : start + size]))
        for ticket in pending:
            results += self.collect(ticket)
        return results

    def submit(self, pictures: Sequence[Picture]) -> Ticket:
        """Start a batch and return while it runs; at most two may be under way.

        Parameters
        ----------
        pictures : sequence of Picture
            Arrays or tensors of any sizes, at least one and at most ``EngineConfig.max_batch``.
            Arrays may be changed as soon as this returns.

        Raises
        ------
        ValueError
            If a picture is of another kind, or there are too many.
        RuntimeError
            If two batches are under way.
        DetectorError
            If the GPU's memory does not do for a single frame.
        """
        require_pictures(pictures, self._config.max_batch)
        if not self._free:
            raise RuntimeError("two batches are under way; collect one first")
        slot = self._free.pop()
        try:
            if len(pictures) <= self._cap.size and self._try_launch(slot, pictures):
                return Ticket(len(pictures), slot, None)
            results = self._in_parts(slot, pictures)
        except BaseException:
            self._free.append(slot)
            raise
        self._free.append(slot)
        return Ticket(len(pictures), None, results)

    def collect(self, ticket: Ticket) -> list[PoseDetections]:
        """Wait for a batch and return the people of each of its frames.

        Raises
        ------
        ValueError
            If the ticket was collected before.
        """
        slot, results = ticket.slot, ticket.results
        ticket.slot = ticket.results = None
        if results is not None:
            return results
        if slot is None:
            raise ValueError("a ticket can be collected once, this one was before")
        try:
            return self._finish(slot)
        finally:
            self._free.append(slot)

    def jpeg_decoders(self) -> Sequence[JpegDecoder]:
        """Return the decoders to compare for its pictures: threads, and nvJPEG on a GPU."""
        return jpeg_decoders(self._config.image_size, str(self._device))

    def device_memory_bytes(self) -> int | None:
        """Return the most that PyTorch has reserved on the GPU; None on a CPU."""
        import torch

        return int(torch.cuda.max_memory_reserved(self._device)) if self._is_cuda else None

    def reset(self) -> None:
        """Do nothing: each frame stands alone."""

    def close(self) -> None:
        """Free the network, the buffers and the GPU memory that they held."""
        self._crew.close()
        self._streams.wait()
        self._free.clear()
        del self._runner
        self._streams.free_unused()

    def _launch(self, slot: Slot, pictures: Sequence[Picture]) -> None:
        """Queue everything that a batch needs."""
        if self._on_batch is not None:
            self._on_batch(len(pictures))
        slot.boxes = letterboxes(pictures, self._config, self._stride)
        shape = (self._size(len(pictures)), slot.boxes[0].height, slot.boxes[0].width)
        self._streams.after_caller()
        with self._streams.on_computing():
            network_input = self._runner.pictures(shape)
            layouts = slot.send(pictures, slot.boxes, self._crew)
            computing = self._streams.computing
            if computing is not None and self._streams.copying is not None:
                computing.wait_stream(self._streams.copying)
            letterbox_batch(slot.packed, layouts, slot.layouts, network_input)
            slot.marks.set("letterboxed", computing)
            people = self._runner.run(shape)
            slot.marks.set("decoded", computing)
            slot.fetch(people[: len(pictures)])
            slot.marks.set("fetched", computing)
        self._cap.note_success()

    def _finish(self, slot: Slot) -> list[PoseDetections]:
        """Wait for a batch and return its people in pixels of their frames."""
        slot.marks.wait()
        started_s = time.perf_counter()
        results = people_of_rows(slot.people(len(slot.boxes)).numpy(), slot.boxes)
        if self.on_stage is not None:
            host_s = time.perf_counter() - started_s
            marks = slot.marks
            self.on_stage("preprocess", marks.seconds("begun", "letterboxed"))
            self.on_stage("infer", marks.seconds("letterboxed", "decoded"))
            self.on_stage("postprocess", marks.seconds("decoded", "fetched") + host_s)
        return results

    def _try_launch(self, slot: Slot, pictures: Sequence[Picture]) -> bool:
        """Queue a batch; if there is no memory for it, make some, halve the cap, return False."""
        if has_memory_for(lambda: self._launch(slot, pictures)):
            return True
        slot.shrink()
        self._shrink(len(pictures))
        return False

    def _prepare(self, shape: InputShape) -> None:
        """Record the graph of a shape."""
        with self._streams.on_computing():
            self._runner.prepare(shape)

    def _in_parts(self, slot: Slot, pictures: Sequence[Picture]) -> list[PoseDetections]:
        """Take a batch through in parts of the largest size that there is memory for."""
        results: list[PoseDetections] = []
        while len(results) < len(pictures):
            size = self._cap.size
            if self._try_launch(slot, pictures[len(results) : len(results) + size]):
                results += self._finish(slot)
            elif size == 1:
                raise DetectorError(
                    "the GPU's memory does not do for a single frame; free some of it"
                )
        return results

    def _shrink(self, n_frames: int) -> None:
        """Halve the largest batch after memory ran out, and give back all that can be.

        All graphs go, since they share one pool, which is freed with the last of them; those that
        are still needed are recorded again.
        """
        self._cap.halve(self._size(n_frames))
        self._streams.wait()
        self._runner.forget()
        for slot in self._free:
            slot.shrink()
        self._streams.free_unused()

    def _size(self, n_frames: int) -> int:
        """Return how many pictures the network is run on; a CPU need not fill up."""
        return batch_size(n_frames) if self._is_cuda else n_frames
