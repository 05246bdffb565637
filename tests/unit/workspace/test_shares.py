"""Shares of repetitions that come in sets: their intervals hold where sets differ."""

from __future__ import annotations

import numpy as np
import pytest
from shares import Share, auc_interval


def test_draws_of_their_own_give_the_interval_of_wilson() -> None:
    # Wilson, 1927, for 5 of 50.
    assert Share.of(5, 50).interval == pytest.approx((0.0435, 0.2136), abs=1e-4)
    assert Share.of_sets([(1, 1)] * 5 + [(0, 1)] * 45).interval == pytest.approx(
        Share.of(5, 50).interval, rel=0.05
    )


@pytest.mark.parametrize("size", [2, 8])
def test_sets_that_agree_within_count_once(size: int) -> None:
    found, once = (Share.of_sets([(n, n)] * 5 + [(0, n)] * 45).interval for n in (size, 1))
    assert found == pytest.approx(once)
    assert Share.of_sets([(0, size)] * 50).interval == Share.of(0, 50).interval
    assert Share.of_sets([(size, size)] * 50).interval == Share.of(50, 50).interval


def test_sets_never_tell_more_than_draws_of_their_own() -> None:
    assert Share.of_sets([(1, 2)] * 50).interval == Share.of(50, 100).interval


def test_the_interval_covers_the_share_where_sets_differ() -> None:
    rng = np.random.default_rng(0)
    covered = {"sets": 0, "draws": 0}
    for _ in range(300):
        hits = rng.binomial(8, rng.beta(0.3, 2.7, 60))
        shares = {
            "sets": Share.of_sets([(int(one), 8) for one in hits]),
            "draws": Share.of(int(hits.sum()), 480),
        }
        for name, share in shares.items():
            low, high = share.interval
            covered[name] += low <= 0.1 <= high
    assert covered["sets"] >= 0.92 * 300
    assert covered["draws"] <= 0.85 * 300


def test_no_repetition_has_no_share() -> None:
    assert np.isnan([Share.of_sets([(0, 0)]).value, *Share.of_sets([]).interval]).all()


def test_a_perfect_auc_of_few_is_uncertain_and_of_many_is_not() -> None:
    assert auc_interval(1.0, 6, 5)[0] < 0.75
    assert auc_interval(1.0, 600, 500)[0] > 0.99
    assert auc_interval(1.0, 6, 5)[1] == 1.0
    assert np.isnan(auc_interval(np.nan, 0, 5)).all()


def test_an_auc_and_its_mirror_image_have_mirrored_intervals() -> None:
    for auc in (0.0, 0.3, 0.5, 0.9):
        low, high = auc_interval(auc, 10, 20)
        assert low <= auc <= high
        assert auc_interval(1.0 - auc, 20, 10) == pytest.approx((1.0 - high, 1.0 - low), abs=1e-6)


def test_the_interval_of_an_auc_covers_it() -> None:
    rng = np.random.default_rng(0)
    true = 0.85534  # of two normal distributions 1.5 standard deviations apart
    covered = 0
    for _ in range(400):
        good, wrong = rng.normal(0.0, 1.0, 6), rng.normal(1.5, 1.0, 5)
        low, high = auc_interval(float((wrong[:, None] > good).mean()), 6, 5)
        covered += low <= true <= high
    assert covered >= 0.92 * 400
