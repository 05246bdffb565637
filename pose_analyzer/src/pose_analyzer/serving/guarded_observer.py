"""An observer whose failures cost nobody a frame."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pose_analyzer.serving.observer import DropCause, Observer, Stage

logger = logging.getLogger(__name__)


class GuardedObserver:
    """Tells an observer everything, and lets pass nothing that it raises.

    The first failure is logged; the others would only repeat it.

    Parameters
    ----------
    observer : Observer
        Who is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._has_failed = False

    def stage(self, stage: Stage, seconds: float) -> None:
        """Take how long one frame, or one batch of them, spent in a stage."""
        self._tell(lambda: self._observer.stage(stage, seconds))

    def dropped(self, cause: DropCause, n: int = 1) -> None:
        """Take that frames were dropped."""
        self._tell(lambda: self._observer.dropped(cause, n))

    def batch(self, n_frames: int, capacity: int) -> None:
        """Take that a batch left, and how many frames it could have held."""
        self._tell(lambda: self._observer.batch(n_frames, capacity))

    def streams(self, n_live: int) -> None:
        """Take how many streams are open."""
        self._tell(lambda: self._observer.streams(n_live))

    def vram(self, used_bytes: int, total_bytes: int) -> None:
        """Take how full the GPU's memory is; (0, 0) says that it can no longer be read."""
        self._tell(lambda: self._observer.vram(used_bytes, total_bytes))

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                name = type(self._observer).__name__
                logger.exception("the observer %s fails; its figures are not complete", name)
