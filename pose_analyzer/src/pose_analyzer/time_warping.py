"""Dynamic time warping of multivariate sequences within a Sakoe-Chiba band.

One sequence against many at once, one anti-diagonal at a time in numpy: a millisecond for 20
repetitions of 13 joints, from the first call on. tslearn's ``dtw`` gives the same distances (it is
the oracle in the tests), but compiles for about ten seconds on its first call and imports torch,
neither of which a live stream can afford.

References
----------
.. [1] H. Sakoe, S. Chiba, "Dynamic Programming Algorithm Optimization for Spoken Word
   Recognition", IEEE Transactions on Acoustics, Speech and Signal Processing 26(1), 1978.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pose_analyzer.types import FloatArray, IntArray

N_PHASES: Final = 60
"""Rows of a phase-normalised repetition."""


def phase_normalised(sequence: FloatArray, n_phases: int = N_PHASES) -> FloatArray:
    """Return a sequence resampled to a fixed number of rows, evenly over its duration.

    Parameters
    ----------
    sequence : array, shape (T, D)
        Evenly sampled in time. NaN = not measured.
    n_phases : int
        Rows of the result.

    Returns
    -------
    array, shape (n_phases, D)
        Columns of which at least half the rows were seen are bridged linearly; the others are
        all NaN.

    Raises
    ------
    ValueError
        If the sequence is not two-dimensional or has fewer than two rows.
    """
    if sequence.ndim != 2 or len(sequence) < 2:
        raise ValueError(f"a sequence needs shape (T >= 2, D), got {sequence.shape}")
    result = np.full((n_phases, sequence.shape[1]), np.nan)
    rows = np.linspace(0.0, len(sequence) - 1.0, n_phases)
    index = np.arange(len(sequence))
    seen = ~np.isnan(sequence)
    for column in np.flatnonzero(2 * seen.sum(axis=0) >= len(sequence)):
        there = seen[:, column]
        result[:, column] = np.interp(rows, index[there], sequence[there, column])
    return result


def warped_distances(sequence: FloatArray, others: FloatArray, radius: int) -> FloatArray:
    """Return the distance of a sequence to each of several others.

    Parameters
    ----------
    sequence : array, shape (T, D)
        A column that is NaN anywhere is left out.
    others : array, shape (N, T, D)
        Of the same length. A pair is compared over the columns that both have.
    radius : int
        The warping path stays within this many rows of the diagonal.

    Returns
    -------
    array, shape (N,)
        Square root of the sum along the best path of the mean squared difference over the
        shared columns; NaN for a pair without a shared column.
    """
    total = _accumulated(_costs(sequence, others), radius)
    return np.asarray(np.sqrt(total[-1, -1]))


def warped_attribution(sequence: FloatArray, other: FloatArray, radius: int) -> FloatArray:
    """Return each column's share in the distance between two sequences, shape (D,).

    Shares sum to 1 along the best path; NaN columns have share 0, and all shares are 0 between
    equal sequences.
    """
    path = _best_path(_accumulated(_costs(sequence, other[None]), radius)[..., 0])
    squares = np.square(sequence[path[:, 0]] - other[path[:, 1]])
    by_column = np.where(np.isnan(squares).any(axis=0), 0.0, squares.sum(axis=0))
    whole = by_column.sum()
    return np.asarray(by_column / whole if whole > 0.0 else np.zeros_like(by_column))


def _costs(sequence: FloatArray, others: FloatArray) -> FloatArray:
    """Return the mean squared difference over shared columns of all row pairs, (T, T, N)."""
    shared = ~(np.isnan(others).any(axis=1) | np.isnan(sequence).any(axis=0))
    weight = shared / np.where(shared.any(axis=1), shared.sum(axis=1), np.nan)[:, None]
    first = np.where(np.isnan(sequence), 0.0, sequence)
    second = np.where(np.isnan(others), 0.0, others)
    weighted = second * weight[:, None, :]
    # (t, d) x (d, s n): the expanded square needs one matrix product for all pairs.
    cross = (first @ weighted.transpose(2, 1, 0).reshape(first.shape[1], -1)).reshape(
        len(first), second.shape[1], len(others)
    )
    costs = -2.0 * cross
    costs += (np.square(first) @ weight.T)[:, None, :]
    costs += (weighted * second).sum(axis=-1).T
    # The expanded square can fall a rounding error below 0; maximum keeps the NaN of an empty pair.
    return np.asarray(np.maximum(costs, 0.0, out=costs))


def _accumulated(costs: FloatArray, radius: int) -> FloatArray:
    """Return the cost of the best path to every cell, (2 T + 1, T + 1, N), by anti-diagonals.

    The cell of rows i and j lies at [i + j + 2, i + 1]; outside the band it is inf. The border
    of inf stands for rows before the first, so that the edges need no special case.
    """
    n_rows, _, n_others = costs.shape
    total = np.full((2 * n_rows + 1, n_rows + 1, n_others), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2 * n_rows - 1):
        first = max(0, diagonal - n_rows + 1, (diagonal - radius + 1) // 2)
        stop = min(n_rows - 1, diagonal, (diagonal + radius) // 2) + 1
        row = np.arange(first, stop)
        best = np.minimum(total[diagonal, first:stop], total[diagonal + 1, first:stop])
        np.minimum(best, total[diagonal + 1, first + 1 : stop + 1], out=best)
        best += costs[row, diagonal - row]
        total[diagonal + 2, first + 1 : stop + 1] = best
    return total


def _best_path(total: FloatArray) -> IntArray:
    """Return the pairs of rows along the cheapest path, from the last to the first, (L, 2)."""
    first = second = total.shape[1] - 2
    path = [(first, second)]
    while first or second:
        steps = [(first - 1, second - 1), (first - 1, second), (first, second - 1)]
        first, second = min(steps, key=lambda step: total[sum(step) + 2, step[0] + 1])
        path.append((first, second))
    return np.array(path, dtype=np.intp)
