"""The largest batch that there is memory for: halved when it runs out, doubled after a while."""

from __future__ import annotations


class BatchCap:
    """Counts what went well and what did not.

    Parameters
    ----------
    most : int
        Never more than this, a power of two.
    recovery_batches : int
        Batches without trouble after which the largest, halved before, doubles again.
    """

    def __init__(self, most: int, recovery_batches: int) -> None:
        self._most = most
        self._recovery_batches = recovery_batches
        self._n_well = 0
        self.size = most
        """Most frames of one run now."""
        self.n_out_of_memory = 0
        """How often memory ran out."""

    def halve(self, size: int) -> None:
        """Take that there was no memory for a batch of a size."""
        self.n_out_of_memory += 1
        self._n_well = 0
        self.size = max(1, min(size, self.size) // 2)

    def note_success(self) -> None:
        """Take that a batch went through."""
        self._n_well += 1
        if self.size < self._most and self._n_well >= self._recovery_batches:
            self.size *= 2
            self._n_well = 0
