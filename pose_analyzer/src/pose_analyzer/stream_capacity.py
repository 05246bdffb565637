"""The most live streams that a machine holds."""

from __future__ import annotations

from collections.abc import Callable

from pose_analyzer.stream_load import LoadResult


def holds(result: LoadResult, budget_ms: float, drop_share: float = 0.001) -> bool:
    """Tell whether 99 % of the frames came within the budget, and hardly any was dropped."""
    return result.percentile_ms(99.0) <= budget_ms and result.drop_share <= drop_share


def most_streams(
    measure: Callable[[int], LoadResult], budget_ms: float, most: int = 128
) -> tuple[int, dict[int, LoadResult]]:
    """Return how many streams are held within a budget, and all that was measured on the way.

    Doubles until they are not, then halves the interval.

    Parameters
    ----------
    measure : callable
        Takes a number of streams, returns what became of their frames.
    budget_ms : float
        Limit of the 99th percentile from capture to analysis.
    most : int
        More are not tried.

    Returns
    -------
    int
        0 if not even one is held.
    dict
        By number of streams.
    """
    tried: dict[int, LoadResult] = {}

    def is_held(n_streams: int) -> bool:
        tried[n_streams] = measure(n_streams)
        return holds(tried[n_streams], budget_ms)

    low, high = 0, 1
    while high <= most and is_held(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if is_held(middle):
            low = middle
        else:
            high = middle
    return low, tried
