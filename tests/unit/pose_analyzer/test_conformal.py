"""Conformal thresholds: their rate, what they take, and what a refusal suggests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pose_analyzer.conformal import lowest_rate, scores_needed, threshold
from pose_analyzer.errors import ReferencesError


@given(st.integers(1, 5000))
def test_the_rate_that_a_refusal_suggests_is_accepted(n_scores: int) -> None:
    told = float(f"{lowest_rate(n_scores):.2g}")
    assert told < 1.0
    assert scores_needed(told) <= n_scores
    assert told == pytest.approx(1.0 / (n_scores + 1), rel=0.1)


def test_a_refusal_says_what_it_takes_and_which_rate_would_do() -> None:
    with pytest.raises(ReferencesError, match=r"at least 41 clips, got 40; .* 0\.025 or more"):
        threshold([0.0] * 40, 0.024, "clips")
    with pytest.raises(ReferencesError, match=r"got 0; record more$"):
        threshold([], 0.5, "clips")


@given(st.integers(9, 60))
def test_at_most_the_rate_exceeds_the_threshold(n_scores: int) -> None:
    scores = np.random.default_rng(n_scores).permutation(n_scores).astype(float)
    found = threshold(scores.tolist(), 0.1, "clips")
    # A new score is as likely in each of the n + 1 gaps between the others.
    assert (scores >= found).sum() / (n_scores + 1) <= 0.1


@pytest.mark.parametrize(("rate", "needed"), [(0.5, 1), (0.2, 4), (0.05, 19), (0.01, 99)])
def test_usual_rates_take_one_over_the_rate_less_one(rate: float, needed: int) -> None:
    assert scores_needed(rate) == needed
