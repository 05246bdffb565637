"""The batched pose engine: frames of any sizes in, one batch through the network, people out."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.backends.onnx_runtime import available_cores
from pose_analyzer.inference.decode import CocoPeople, people_in_pictures
from pose_analyzer.inference.detector import StageListener
from pose_analyzer.inference.device_decode import DecodeConfig
from pose_analyzer.inference.device_letterbox import letterbox_batch
from pose_analyzer.inference.engine_slot import Picture, Slot, Streams
from pose_analyzer.inference.network_runner import NetworkRunner
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.inference.preprocess import Letterbox
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import Frame, PoseDetections

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Batches that a graph is recorded for; another number of frames takes the next larger one."""
_N_SLOTS: Final = 2
_BYTES: Final = ("uint8", "torch.uint8")
_MAX_PACKERS: Final = 8


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine works.

    Attributes
    ----------
    image_size : int
        Longer side of the network's input in pixels.
    is_half : bool
        Whether to calculate in FP16 on a GPU; a CPU takes FP32 always.
    is_square : bool
        Whether the input is square always. Otherwise it is the rectangle with the least padding,
        if all frames of a batch have the same one, as Ultralytics does for frames of one size.
    max_batch : int
        Most frames of one run of the network, one of `BATCH_SIZES`.
    recovery_batches : int
        Batches without trouble after which the largest batch, halved for lack of memory, doubles
        again: half a minute at 30 batches a second (chosen by us).
    decode : DecodeConfig
        What is kept of the output.
    """

    image_size: int = 640
    is_half: bool = True
    is_square: bool = False
    max_batch: int = BATCH_SIZES[-1]
    recovery_batches: int = 1000
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.max_batch not in BATCH_SIZES:
            raise ValueError(f"max_batch must be one of {BATCH_SIZES}, got {self.max_batch}")


class Ticket:
    """A batch that was submitted; `PoseEngine.collect` takes it once."""

    __slots__ = ("n_frames", "results", "slot")

    def __init__(
        self, n_frames: int, slot: Slot | None, results: list[PoseDetections] | None
    ) -> None:
        self.n_frames = n_frames
        self.slot = slot
        self.results = results


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
        self._cap = self._config.max_batch
        self._n_out_of_memory = 0
        self._n_batches_well = 0
        self._streams = Streams.of(self._device)
        decode = self._config.decode
        self._runner = NetworkRunner(
            network, self._device, decode, is_half=self._config.is_half and self._is_cuda
        )
        self._free = [
            Slot(self._device, self._streams, self._config.max_batch, decode.n_people)
            for _ in range(_N_SLOTS)
        ]
        n_packers = min(_MAX_PACKERS, available_cores() // 2)
        self._packers = ThreadPoolExecutor(n_packers) if self._is_cuda and n_packers > 1 else None

    @property
    def max_batch(self) -> int:
        """Most frames of one run now; less than configured while memory is short."""
        return self._cap

    @property
    def n_out_of_memory(self) -> int:
        """How often the GPU's memory ran out."""
        return self._n_out_of_memory

    def warm_up(self, source_shape: tuple[int, ...] = (1080, 1920, 3)) -> None:
        """Record the graphs of all batch sizes for frames of one shape, the largest first.

        Without it, each is recorded when it is first used, which takes up to a second.
        """
        black = np.zeros(source_shape, dtype=np.uint8)
        (box,) = self._letterboxes([black])
        for size in reversed(BATCH_SIZES):
            if size <= self._cap:
                try:
                    with self._computing():
                        self._runner.prepare((size, box.height, box.width))
                except RuntimeError as exc:
                    if not _is_out_of_memory(exc):
                        raise
                    self._shrink(size)
        self.collect(self.submit([black]))

    def infer(self, frames: Sequence[Frame]) -> list[PoseDetections]:
        """Return the people of each frame.

        Raises
        ------
        DetectorError
            If the GPU's memory does not do for a single frame.
        """
        images = [frame.image for frame in frames]
        results: list[PoseDetections] = []
        pending: deque[Ticket] = deque()
        for start in range(0, len(images), size := self._cap):
            if not self._free:
                results += self.collect(pending.popleft())
            pending.append(self.submit(images[start : start + size]))
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
        self._require_pictures(pictures)
        if not self._free:
            raise RuntimeError("two batches are under way; collect one first")
        slot = self._free.pop()
        try:
            if len(pictures) <= self._cap:
                try:
                    self._launch(slot, pictures)
                except RuntimeError as exc:
                    if not _is_out_of_memory(exc):
                        raise
                    self._shrink(len(pictures))
                else:
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

    def device_memory_bytes(self) -> int | None:
        """Return the most that PyTorch has reserved on the GPU; None on a CPU."""
        import torch

        return int(torch.cuda.max_memory_reserved(self._device)) if self._is_cuda else None

    def reset(self) -> None:
        """Do nothing: each frame stands alone."""

    def close(self) -> None:
        """Free the network, the buffers and the GPU memory that they held."""
        if self._packers is not None:
            self._packers.shutdown()
        self._free.clear()
        del self._runner
        self._free_unused()

    def _launch(self, slot: Slot, pictures: Sequence[Picture]) -> None:
        """Queue everything that a batch needs."""
        if self._on_batch is not None:
            self._on_batch(len(pictures))
        slot.boxes = self._letterboxes(pictures)
        shape = (self._size(len(pictures)), slot.boxes[0].height, slot.boxes[0].width)
        self._streams.after_caller(self._device)
        with self._computing():
            network_input = self._runner.pictures(shape)
            layouts = slot.send(pictures, slot.boxes, self._packers)
            computing = self._streams.computing
            if computing is not None and self._streams.copying is not None:
                computing.wait_stream(self._streams.copying)
            letterbox_batch(slot.packed, layouts, slot.layouts, network_input)
            slot.marks.set("letterboxed", computing)
            people = self._runner.run(shape)
            slot.marks.set("decoded", computing)
            slot.fetch(people[: len(pictures)])
            slot.marks.set("fetched", computing)
        self._note_success()

    def _finish(self, slot: Slot) -> list[PoseDetections]:
        """Wait for a batch and return its people in pixels of their frames."""
        slot.marks.wait()
        started_s = time.perf_counter()
        rows = slot.people(len(slot.boxes)).numpy()
        is_somebody = rows[..., 4] > 0.0
        people = rows[is_somebody].astype(np.float64)
        points = people[:, 5:].reshape(-1, N_COCO, 3)
        found = CocoPeople(people[:, :4], people[:, 4], points[..., :2], points[..., 2])
        counts = is_somebody.sum(axis=1).tolist()
        results = people_in_pictures(found, slot.boxes, counts)
        if self.on_stage is not None:
            host_s = time.perf_counter() - started_s
            marks = slot.marks
            self.on_stage("preprocess", marks.seconds("begun", "letterboxed"))
            self.on_stage("infer", marks.seconds("letterboxed", "decoded"))
            self.on_stage("postprocess", marks.seconds("decoded", "fetched") + host_s)
        return results

    def _in_parts(self, slot: Slot, pictures: Sequence[Picture]) -> list[PoseDetections]:
        """Take a batch through in parts of the largest size that there is memory for."""
        results: list[PoseDetections] = []
        while len(results) < len(pictures):
            size = self._cap
            try:
                self._launch(slot, pictures[len(results) : len(results) + size])
                results += self._finish(slot)
            except RuntimeError as exc:
                if not _is_out_of_memory(exc):
                    raise
                self._shrink(size)
                if size == 1:
                    raise DetectorError(
                        "the GPU's memory does not do for a single frame; free some of it"
                    ) from exc
        return results

    def _shrink(self, n_frames: int) -> None:
        """Halve the largest batch after memory ran out, and give back what is not needed."""
        self._n_out_of_memory += 1
        self._n_batches_well = 0
        self._cap = max(1, self._size(min(n_frames, self._cap)) // 2)
        self._free_unused()
        self._runner.forget_above(self._cap)
        for slot in self._free:
            slot.shrink()
        self._free_unused()

    def _note_success(self) -> None:
        """Count a batch without trouble, and try larger ones again after many."""
        self._n_batches_well += 1
        if (
            self._cap < self._config.max_batch
            and self._n_batches_well >= self._config.recovery_batches
        ):
            self._cap *= 2
            self._n_batches_well = 0

    def _letterboxes(self, pictures: Sequence[Picture]) -> list[Letterbox]:
        """Return where each picture lies in the network's input."""
        size = self._config.image_size
        shapes = [_height_and_width(picture) for picture in pictures]
        if not self._config.is_square:
            boxes = [Letterbox.fit_rectangle(shape, size, self._stride) for shape in shapes]
            if len({(box.height, box.width) for box in boxes}) == 1:
                return boxes
        return [Letterbox.fit(shape, size, size) for shape in shapes]

    def _size(self, n_frames: int) -> int:
        """Return how many pictures the network is run on; a CPU need not fill up."""
        if not self._is_cuda:
            return n_frames
        return next(size for size in BATCH_SIZES if size >= n_frames)

    def _require_pictures(self, pictures: Sequence[Picture]) -> None:
        if not 1 <= len(pictures) <= self._config.max_batch:
            raise ValueError(
                f"a batch has 1 to {self._config.max_batch} pictures, got {len(pictures)}"
            )
        for picture in pictures:
            channels = (
                picture.shape[2 if isinstance(picture, np.ndarray) else 0]
                if picture.ndim == 3
                else 0
            )
            if channels != 3 or str(picture.dtype) not in _BYTES:
                raise ValueError(
                    f"a picture must be a uint8 array of shape (H, W, 3) or tensor of shape "
                    f"(3, H, W), got {picture.dtype} {tuple(picture.shape)}"
                )

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Queue on the stream of the network, and keep no record for training."""
        import torch

        with torch.inference_mode(), torch.cuda.stream(self._streams.computing):
            yield

    def _free_unused(self) -> None:
        """Wait until nothing runs and give unused memory back to the GPU."""
        import torch

        if self._is_cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()


def _height_and_width(picture: Picture) -> tuple[int, ...]:
    is_array = isinstance(picture, np.ndarray)
    return tuple(picture.shape[:2] if is_array else picture.shape[1:])


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory ran out."""
    import torch

    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        text = str(error)
        # Pinned memory, cuDNN and cuBLAS have no exception of their own for it.
        if "out of memory" in text or "ALLOC_FAILED" in text:
            return True
        error = error.__cause__ or error.__context__
    return False
