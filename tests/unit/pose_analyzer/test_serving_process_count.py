"""How many processes analyse so many streams."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pose_analyzer.serving.process_count import analysis_processes

N_STREAMS = st.integers(1, 500)
N_CORES = st.integers(1, 256)


@pytest.mark.parametrize(
    ("n_streams", "n_cores", "expected"),
    [(8, 16, 0), (9, 16, 3), (16, 16, 4), (32, 16, 8), (64, 16, 8), (32, 2, 1), (32, 1, 0)],
)
def test_a_process_serves_about_four_streams(n_streams: int, n_cores: int, expected: int) -> None:
    assert analysis_processes(n_streams, n_cores) == expected


@given(n_streams=N_STREAMS, n_cores=N_CORES)
def test_half_of_the_cores_are_left(n_streams: int, n_cores: int) -> None:
    assert 0 <= analysis_processes(n_streams, n_cores) <= n_cores // 2


@given(n_streams=N_STREAMS, n_cores=N_CORES)
def test_more_streams_never_get_fewer(n_streams: int, n_cores: int) -> None:
    n_processes = analysis_processes(n_streams, n_cores)
    assert n_processes <= analysis_processes(n_streams + 1, n_cores)


@given(n_streams=N_STREAMS, n_cores=N_CORES)
def test_a_network_on_the_cores_leaves_none_to_others(n_streams: int, n_cores: int) -> None:
    assert analysis_processes(n_streams, n_cores, is_network_on_cpu=True) == 0


@pytest.mark.parametrize(("n_streams", "n_cores"), [(0, 4), (4, 0)])
def test_nothing_is_refused(n_streams: int, n_cores: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        analysis_processes(n_streams, n_cores)
