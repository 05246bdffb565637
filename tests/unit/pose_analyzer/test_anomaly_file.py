"""Files of anomaly models: a damaged one is refused, whichever part it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from pose_analyzer.errors import ReferencesError
from pose_analyzer.form_anomaly_detector import Calibration, FormAnomalyDetector

Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]
Change = Callable[[Array], Array]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a personal detector of two channels, of which the references show one and a half."""
    rng = np.random.default_rng(0)
    reps = [rng.normal(size=(30, 2)) for _ in range(28)]
    for one in reps[:3]:
        one[:, 1] = np.nan
    calibration = Calibration(reps[8:28], [row // 2 for row in range(20)])
    detector = FormAnomalyDetector(("a", "b")).fit(reps[:8], calibration, 0.1)
    path = tmp_path_factory.mktemp("models") / "a.npz"
    detector.personalised([rng.normal(size=(30, 2))]).save(str(path))
    return path


@pytest.fixture(scope="module")
def arrays(saved: Path) -> Arrays:
    with np.load(saved) as file:
        return dict(file)


def changed(place: tuple[int, ...], value: float) -> Change:
    """Return a function that writes a value into an array."""

    def change(array: Array) -> Array:
        np.put(array, np.ravel_multi_index(place, array.shape), value)
        return array

    return change


DAMAGE: list[tuple[str, Change]] = [
    ("channels", lambda array: array[:, None]),
    ("channels", lambda array: np.zeros(array.shape)),
    ("floors", changed((0,), np.nan)),
    ("floors", changed((0,), -1.0)),
    ("offset", changed((0,), np.nan)),
    ("offset", lambda array: array[:1]),
    ("spread", changed((0,), 0.0)),
    ("spread", changed((0,), np.inf)),
    ("spread", lambda array: array.astype("S8")),
    ("curves", changed((0, 0, 0), np.nan)),
    ("curves", changed((0, 0, 0), np.inf)),
    ("curves", lambda array: array[:, :-1]),
    ("curves", lambda array: array[:1]),
    ("curves", lambda array: array[0]),
    ("numbers", changed((0,), np.nan)),
    ("numbers", changed((1,), 1.5)),
    ("numbers", changed((2,), -0.1)),
    ("calibration", lambda array: array[..., :1]),
    ("calibration_scores", changed((3,), np.nan)),
    ("calibration_scores", lambda array: array[1:]),
    ("athletes", changed((0,), -1)),
    ("athletes", lambda array: array[1:]),
    ("own", lambda _: np.empty(0)),
    ("own", changed((0, 1, 0), np.nan)),
    ("forest_feature", changed((0, 0), 12)),
    ("forest_feature", lambda array: array[:, :0]),
    ("forest_left", changed((0, 0), 0)),
    ("forest_right", changed((0, 0), 500)),
    ("forest_left", lambda array: array.astype(np.float64)),
    ("forest_threshold", changed((0, 0), np.nan)),
    ("forest_path_length", lambda array: array[1:]),
    ("forest_n_samples", lambda _: np.array(1)),
    ("forest_n_samples", lambda _: np.array([5])),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_each_part_must_be_what_it_is(
    name: str, damage: Change, arrays: Arrays, tmp_path: Path
) -> None:
    np.savez(tmp_path / "b.npz", **(arrays | {name: damage(arrays[name].copy())}))
    with pytest.raises(ReferencesError, match=f"b.npz is damaged in {name}; fit it anew"):
        FormAnomalyDetector.load(tmp_path / "b.npz")


def test_the_undamaged_parts_are_accepted(saved: Path, arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", **arrays)
    one = np.zeros((20, 2))
    assert FormAnomalyDetector.load(str(tmp_path / "b.npz")).judge(one) == FormAnomalyDetector.load(
        saved
    ).judge(one)


@pytest.mark.parametrize("version", [np.array("2"), np.array([2]), np.array(np.nan)])
def test_a_version_that_is_no_number_is_none(
    version: npt.NDArray[np.generic], arrays: Arrays, tmp_path: Path
) -> None:
    np.savez(tmp_path / "b.npz", **(arrays | {"format_version": version}))
    with pytest.raises(ReferencesError, match="of no version"):
        FormAnomalyDetector.load(tmp_path / "b.npz")


def test_a_single_array_is_no_model(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(ReferencesError, match="not an anomaly model"):
        FormAnomalyDetector.load(tmp_path / "b.npy")


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0.0, 1.0, exclude_max=True), bits=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(where: float, bits: int, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[int(where * len(content))] ^= bits
    other = saved.with_name("changed.npz")
    other.write_bytes(content)
    one = np.zeros((20, 2))
    try:
        verdict = FormAnomalyDetector.load(other).judge(one)
    except ReferencesError:
        return
    assert verdict == FormAnomalyDetector.load(saved).judge(one)
