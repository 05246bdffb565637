"""What live serving tells of itself, and to whom."""

from __future__ import annotations

from typing import Final, Literal, Protocol, get_args

Stage = Literal["decode", "queue", "preprocess", "infer", "postprocess", "analyse", "end_to_end"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""Where the time between capture and result goes; the last is all of it."""

DropCause = Literal["replaced", "stale", "vram", "backpressure", "bad_frame", "failed", "closed"]
DROP_CAUSES: Final[tuple[DropCause, ...]] = get_args(DropCause)
"""Why a live frame was not analysed.

``replaced`` by a newer one of its stream, ``stale`` when its turn came, shed to save GPU memory
(``vram``), its result was not taken before the next (``backpressure``), it was no picture
or its time was wrong (``bad_frame``), the detector or the analysis failed on it (``failed``), or
its stream was closed before its turn (``closed``).
"""


class Observer(Protocol):
    """Somebody who counts. Its methods are called from any thread and must not block."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """Take how long one frame, or one batch of them, spent in a stage."""
        ...

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        """Take that frames were dropped."""
        ...

    def batch(self, n_frames: int, capacity: int) -> None:
        """Take that a batch left, and how many frames it could have held."""
        ...

    def streams(self, n_live: int) -> None:
        """Take how many streams are open."""
        ...

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Take how full the GPU's memory is; (0, 0) says that it can no longer be read."""
        ...


class _Nobody:
    """Counts nothing."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """Pass over it."""

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        """Pass over it."""

    def batch(self, n_frames: int, capacity: int) -> None:
        """Pass over it."""

    def streams(self, n_live: int) -> None:
        """Pass over it."""

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Pass over it."""


NO_OBSERVER: Final[Observer] = _Nobody()
"""For those who want no figures."""
