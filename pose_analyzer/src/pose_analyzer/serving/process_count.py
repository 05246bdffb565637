"""How many processes should analyse so many live streams."""

from __future__ import annotations

from typing import Final

MOST_IN_ONE_PROCESS: Final = 8
"""Streams of 30 frames a second that one process analyses in time, beside all else that it does."""
STREAMS_EACH: Final = 4
"""For each other process."""


def analysis_processes(n_streams: int, n_cores: int, *, is_network_on_cpu: bool = False) -> int:
    """Return how many processes should analyse, 0 for the one that serves.

    An analysis holds the interpreter's lock for about a millisecond a frame. On an H200 with 16
    cores one process held 8 streams of 1080p at 30 frames a second, and lost frames of 16; 8
    processes held 32. More than half of the cores would be taken from the threads that decode and
    pack. Where the network runs on the cores, these are the limit and another process only costs
    time. Chosen by us, see reports/gpu_streams.md.

    Parameters
    ----------
    n_streams : int
        Open at once, at least 1.
    n_cores : int
        That this process may use, at least 1.
    is_network_on_cpu : bool
        As `TimedDetector.is_on_cpu`.
    """
    if n_streams < 1 or n_cores < 1:
        raise ValueError(f"streams and cores must be at least 1, got {n_streams} and {n_cores}")
    if is_network_on_cpu or n_streams <= MOST_IN_ONE_PROCESS:
        return 0
    return min(-(-n_streams // STREAMS_EACH), n_cores // 2)
