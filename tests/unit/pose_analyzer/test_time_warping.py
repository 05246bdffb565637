"""Dynamic time warping: against tslearn, invariances, attribution, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.time_warping import phase_normalised, warped_attribution, warped_distances
from pose_analyzer.types import FloatArray


def walks(n: int, seed: int = 0, columns: int = 4) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, 60, columns)).cumsum(axis=1)


def plain_distance(one: FloatArray, other: FloatArray, radius: int) -> float:
    """Return the distance by the textbook recurrence, cell by cell."""
    n = len(one)
    total = np.full((n + 1, n + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(n):
        for j in range(max(0, i - radius), min(n, i + radius + 1)):
            best = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = best + np.square(one[i] - other[j]).mean()
    return float(np.sqrt(total[n, n]))


@pytest.mark.parametrize("radius", [1, 6, 60])
def test_distances_equal_the_textbook_recurrence(radius: int) -> None:
    one, others = walks(1)[0], walks(3, seed=1)
    expected = [plain_distance(one, other, radius) for other in others]
    np.testing.assert_allclose(warped_distances(one, others, radius), expected)


@pytest.mark.slow
def test_distances_equal_those_of_tslearn() -> None:
    from tslearn.metrics import dtw

    one, others = walks(1)[0], walks(5, seed=1)
    expected = [
        dtw(one, other, global_constraint="sakoe_chiba", sakoe_chiba_radius=6) for other in others
    ]
    # tslearn sums over the columns, we take their mean.
    np.testing.assert_allclose(warped_distances(one, others, 6), np.array(expected) / 2.0)


def test_without_a_band_to_move_in_it_is_the_euclidean_distance() -> None:
    one, others = walks(1)[0], walks(3, seed=1)
    euclid = np.sqrt(np.square(one - others).mean(axis=2).sum(axis=1))
    np.testing.assert_allclose(warped_distances(one, others, 0), euclid)


def test_a_small_shift_in_time_costs_little() -> None:
    phase = np.linspace(0.0, 2.0 * np.pi, 60)
    one, shifted = np.sin(phase)[:, None], np.sin(phase + 0.3)[:, None]
    still, warped = (warped_distances(one, shifted[None], r)[0] for r in (0, 6))
    assert warped < 0.4 * still


def test_the_distance_is_symmetric_and_zero_to_itself() -> None:
    one, other = walks(2)
    there, back = (warped_distances(a, b[None], 6)[0] for a, b in ((one, other), (other, one)))
    assert there == pytest.approx(back)
    assert warped_distances(one, one[None], 6)[0] == pytest.approx(0.0, abs=1e-5)


def test_a_column_that_one_of_both_lacks_is_left_out() -> None:
    one, other = walks(2)
    lacking = other.copy()
    lacking[:, 1] = np.nan
    kept = [0, 2, 3]
    expected = warped_distances(one[:, kept], other[None][:, :, kept], 6)
    np.testing.assert_allclose(warped_distances(one, lacking[None], 6), expected)


def test_a_pair_without_a_shared_column_has_no_distance() -> None:
    one, other = walks(2)
    one[:, :2], other[:, 2:] = np.nan, np.nan
    assert np.isnan(warped_distances(one, other[None], 6)).all()


def test_the_shares_name_the_column_that_differs() -> None:
    one = walks(1)[0]
    other = one.copy()
    other[:, 2] += 5.0
    shares = warped_attribution(one, other, 6)
    assert np.argmax(shares) == 2
    assert shares.sum() == pytest.approx(1.0)


def test_equal_sequences_have_no_shares() -> None:
    one = walks(1)[0]
    np.testing.assert_array_equal(warped_attribution(one, one, 6), np.zeros(4))


def test_phase_normalising_keeps_ends_and_bridges_gaps() -> None:
    line = np.linspace(10.0, 20.0, 41)[:, None].repeat(2, axis=1)
    line[5:15, 0] = np.nan
    line[5:35, 1] = np.nan
    result = phase_normalised(line, 21)
    np.testing.assert_allclose(result[:, 0], np.linspace(10.0, 20.0, 21))
    assert np.isnan(result[:, 1]).all()


@pytest.mark.parametrize("shape", [(1, 3), (5,)])
def test_what_is_no_sequence_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="T >= 2"):
        phase_normalised(np.zeros(shape))
