"""IsolationForest: the scores of scikit-learn's forest, from plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as Oracle

from pose_analyzer.isolation_forest import IsolationForest


@pytest.mark.parametrize("n_samples", [2, 9, 300])
def test_scores_are_those_of_scikit_learn(n_samples: int) -> None:
    rng = np.random.default_rng(0)
    samples, asked = rng.normal(size=(n_samples, 5)), 2.0 * rng.normal(size=(20, 5))
    oracle = Oracle(n_estimators=30, random_state=1).fit(samples)
    forest = IsolationForest.learned(samples, n_trees=30, seed=1)
    scores = [forest.score(one) for one in asked]
    np.testing.assert_allclose(scores, -oracle.score_samples(asked), atol=1e-12)


def test_an_outlier_is_more_isolated() -> None:
    samples = np.random.default_rng(0).normal(size=(60, 4))
    forest = IsolationForest.learned(samples, n_trees=50, seed=0)
    assert forest.score(np.full(4, 6.0)) > 0.6 > forest.score(np.zeros(4))
