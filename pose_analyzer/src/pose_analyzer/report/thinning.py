"""Rows of numbers in bounded memory, however many come: every second is dropped when it fills."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pose_analyzer.types import FloatArray


class ThinnedRows:
    """Keeps evenly spaced rows of a series of unknown length.

    Parameters
    ----------
    width : int
        Numbers in a row.
    capacity : int
        Most rows that are kept; even. After thinning, at least half as many are.

    Attributes
    ----------
    stride : int
        Every ``stride``-th row was kept, a power of 2.
    """

    def __init__(self, width: int, capacity: int) -> None:
        if width < 1 or capacity < 2 or capacity % 2:
            raise ValueError(
                f"width must be at least 1 and capacity even, got {width} and {capacity}"
            )
        self.stride = 1
        self._rows: npt.NDArray[np.float32] = np.empty((capacity, width), np.float32)
        self._n_kept = 0
        self._n_seen = 0

    def append(self, row: npt.ArrayLike) -> None:
        """Take the next row. NaN is kept as it is."""
        is_kept = self._n_seen % self.stride == 0
        self._n_seen += 1
        if not is_kept:
            return
        self._rows[self._n_kept] = row
        self._n_kept += 1
        if self._n_kept == len(self._rows):
            self._n_kept //= 2
            self._rows[: self._n_kept] = self._rows[::2].copy()
            self.stride *= 2

    def rows(self) -> FloatArray:
        """Return what was kept, shape (N, width), in order."""
        return self._rows[: self._n_kept].astype(np.float64)
