"""Packing the pictures of a batch in several threads, the caller's among them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from pose_analyzer.inference.device_letterbox import Packing, pack
from pose_analyzer.types import ImageArray

_MOST_PARTS: Final = 4
"""Of a picture: each costs a copy of its own to the device (chosen by us)."""


@dataclass(frozen=True, slots=True)
class PackingJob:
    """Some lines of a picture to pack.

    Attributes
    ----------
    image : uint8 array, shape (H, W, 3)
    packing : Packing
        Of the whole picture.
    target : uint8 array
        Flat, of ``packing.n_bytes`` bytes.
    lines : slice
        Of the lines that are sent.
    start, end : int
        Where these lines lie in the buffer of the batch, in bytes.
    """

    image: ImageArray
    packing: Packing
    target: ImageArray
    lines: slice
    start: int
    end: int

    def run(self) -> None:
        """Pack."""
        pack(self.image, self.packing, self.target, self.lines)


def packing_jobs(
    image: ImageArray, packing: Packing, target: ImageArray, offset: int, n_parts: int
) -> list[PackingJob]:
    """Return the packing of a picture in parts of about as many lines.

    Parameters
    ----------
    image : uint8 array, shape (H, W, 3)
    packing : Packing
    target : uint8 array, shape (packing.n_bytes,)
        Where the picture goes.
    offset : int
        Of the picture in the buffer of the batch, in bytes.
    n_parts : int
        At least 1; a picture of fewer lines has fewer parts.
    """
    n_lines = len(image) if packing.lines is None else len(packing.lines)
    line_bytes = packing.n_bytes // n_lines
    edges = [n_lines * part // n_parts for part in range(n_parts + 1)]
    return [
        PackingJob(
            image,
            packing,
            target,
            slice(first, last),
            offset + first * line_bytes,
            offset + last * line_bytes,
        )
        for first, last in itertools.pairwise(edges)
        if first < last
    ]


class _Batch:
    """Jobs that any thread takes next, and what became of them."""

    def __init__(self, jobs: Sequence[PackingJob]) -> None:
        self._left = deque(jobs)
        self.done: SimpleQueue[PackingJob | Exception] = SimpleQueue()

    def work(self) -> bool:
        """Do the next job; return whether there was one."""
        try:
            job = self._left.popleft()
        except IndexError:
            return False
        try:
            job.run()
        except Exception as exc:  # noqa: BLE001 - the caller raises it in its own thread
            self.done.put(exc)
        else:
            self.done.put(job)
        return True


class PackingCrew:
    """Threads that help the caller to pack.

    The caller packs too, so that a batch is packed even while no other thread gets a core.

    Parameters
    ----------
    n_threads : int
        The caller's included, at least 1.
    """

    def __init__(self, n_threads: int) -> None:
        if n_threads < 1:
            raise ValueError(f"n_threads must be at least 1, got {n_threads}")
        self.n_threads = n_threads
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        for _ in range(n_threads - 1):
            threading.Thread(target=self._help, name="pose-packing", daemon=True).start()

    def parts_each(self, n_pictures: int) -> int:
        """Return in how many parts each picture is best packed."""
        return min(_MOST_PARTS, -(-self.n_threads // n_pictures))

    def run(self, jobs: Sequence[PackingJob]) -> Iterator[PackingJob]:
        """Yield each job as soon as it is done, in any order.

        Raises
        ------
        Exception
            What a job raised; the others are done all the same.
        """
        batch = _Batch(jobs)
        for _ in range(min(self.n_threads, len(jobs)) - 1):
            self._batches.put(batch)
        n_left = len(jobs)
        failure: Exception | None = None
        while n_left:
            is_idle = not batch.work()
            try:
                while n_left:
                    outcome = batch.done.get(block=is_idle)
                    n_left -= 1
                    if isinstance(outcome, Exception):
                        failure = outcome
                    else:
                        yield outcome
            except Empty:
                continue
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let the threads end."""
        for _ in range(self.n_threads - 1):
            self._batches.put(None)

    def _help(self) -> None:
        while (batch := self._batches.get()) is not None:
            while batch.work():
                pass
            # The buffers of a batch must not live until the next one comes.
            del batch
