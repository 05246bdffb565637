"""FormAnomalyDetector: calibration, detection, attribution, abstention, personal mode, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pose_analyzer.errors import ReferencesError
from pose_analyzer.form_anomaly_detector import Calibration, FormAnomalyDetector
from pose_analyzer.types import FloatArray

JOINTS = ("elbow", "hip", "knee")


def bend(rng: np.random.Generator, knee_deg: float = 80.0, elbow_deg: float = 0.0) -> FloatArray:
    """Return a repetition of three joints, shape (T, 3): T, size and timing vary."""
    phase = np.linspace(0.0, 1.0, int(rng.integers(45, 90))) ** rng.uniform(0.9, 1.1)
    wave = np.sin(np.pi * phase)[:, None] ** 2
    size = np.array([10.0, 90.0, knee_deg]) * rng.uniform(0.95, 1.05, 3)
    habit = np.array([elbow_deg, 0.0, 0.0])
    return np.asarray(175.0 + habit - size * wave + rng.normal(0.0, 1.0, wave.shape))


def bends(n: int, seed: int = 0, knee_deg: float = 80.0) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [bend(rng, knee_deg) for _ in range(n)]


@pytest.fixture(scope="module")
def fitted() -> FormAnomalyDetector:
    return FormAnomalyDetector(JOINTS).fit(bends(20), bends(40, seed=1), false_positive_rate=0.05)


def test_another_movement_is_an_anomaly_of_the_joint_that_differs(
    fitted: FormAnomalyDetector,
) -> None:
    for one in bends(5, seed=2, knee_deg=45.0):
        verdict = fitted.judge(one)
        assert verdict.is_anomaly
        assert verdict.score > verdict.threshold
        assert verdict.joints[0][0] == "knee"
        assert sum(share for _, share in verdict.joints) == pytest.approx(1.0)


def test_good_repetitions_are_rarely_called_anomalies(fitted: FormAnomalyDetector) -> None:
    alarms = [fitted.judge(one).is_anomaly for one in bends(200, seed=3)]
    # 5 % are promised on average; the calibration draw itself varies around that.
    assert np.mean(alarms) <= 0.12


def test_the_same_data_give_the_same_judgement(fitted: FormAnomalyDetector) -> None:
    again = FormAnomalyDetector(JOINTS).fit(bends(20), bends(40, seed=1), 0.05)
    one = bends(1, seed=9)[0]
    assert again.judge(one) == fitted.judge(one)


def test_judging_does_not_depend_on_how_fast_the_repetition_was(
    fitted: FormAnomalyDetector,
) -> None:
    phase = [np.linspace(0.0, 1.0, n) for n in (50, 100)]
    slow_and_fast = [
        175.0 - np.sin(np.pi * p)[:, None] ** 2 * np.array([10.0, 90.0, 80.0]) for p in phase
    ]
    first, second = (fitted.judge(one).score for one in slow_and_fast)
    assert first == pytest.approx(second, abs=0.2)


def test_a_hidden_joint_is_left_out(fitted: FormAnomalyDetector) -> None:
    one = bends(1, seed=4)[0]
    one[:, 0] = np.nan
    verdict = fitted.judge(one)
    assert verdict.abstained == ""
    assert "elbow" not in dict(verdict.joints)


def test_abstains_when_most_joints_are_hidden(fitted: FormAnomalyDetector) -> None:
    one = bends(1, seed=4)[0]
    one[:, :2] = np.nan
    verdict = fitted.judge(one)
    assert not verdict.is_anomaly
    assert np.isnan(verdict.score)
    assert "fewer than half" in verdict.abstained


def test_a_rate_that_the_calibration_cannot_support_is_refused() -> None:
    with pytest.raises(ReferencesError, match=r"at least 99 calibration repetitions, got 20"):
        FormAnomalyDetector(JOINTS).fit(bends(10), bends(20, seed=1))


def test_exactly_enough_calibration_is_accepted() -> None:
    detector = FormAnomalyDetector(JOINTS)
    references, calibration = bends(8), bends(19, seed=1)
    detector.fit(references, calibration, 0.05)
    scores = sorted(detector.judge(one).score for one in calibration)
    assert detector.judge(calibration[0]).threshold == pytest.approx(scores[-1])
    with pytest.raises(ReferencesError, match="at least 19"):
        detector.fit(references, calibration[:18], 0.05)


def test_a_calibration_repetition_that_shows_too_little_is_named() -> None:
    calibration = bends(20, seed=1)
    calibration[4][:, :2] = np.nan
    with pytest.raises(ReferencesError, match="calibration repetition 5 cannot be compared: fewer"):
        FormAnomalyDetector(JOINTS).fit(bends(10), calibration, 0.05)
    whose = [f"clip {number}" for number in range(20)]
    with pytest.raises(ReferencesError, match=r"calibration repetition 5 \(clip 4\) cannot"):
        FormAnomalyDetector(JOINTS).fit(bends(10), Calibration(calibration, whose), 0.05)


def test_a_reference_that_shows_nothing_is_named() -> None:
    references = bends(10)
    references[6][:] = np.nan
    with pytest.raises(ReferencesError, match="reference repetition 7 shows none"):
        FormAnomalyDetector(JOINTS).fit(references, bends(19, seed=1), 0.05)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (np.zeros((1, 3)), r"needs shape \(T >= 2, 3\), got \(1, 3\)"),
        (np.full((40, 3), 1e200), "none above 1e"),
        ([[1.0, 2.0], [3.0]], "is no array of numbers"),
        ([["a", "b", "c"]] * 5, "is no array of numbers"),
    ],
)
def test_what_is_no_repetition_is_named(wrong: FloatArray, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"reference repetition 3 .*{complaint}"):
        FormAnomalyDetector(JOINTS).fit([*bends(2), wrong, *bends(9, seed=1)], bends(19), 0.05)


def test_lists_are_as_good_as_arrays(fitted: FormAnomalyDetector) -> None:
    references, calibration = ([one.tolist() for one in bends(n, n)] for n in (8, 19))
    from_lists = FormAnomalyDetector(JOINTS).fit(references, calibration, 0.05)
    from_arrays = FormAnomalyDetector(JOINTS).fit(bends(8, 8), bends(19, 19), 0.05)
    one = bends(1, seed=7)[0]
    assert from_lists.judge(one.tolist()) == from_arrays.judge(one)
    assert fitted.judge(one.tolist()) == fitted.judge(one)


def test_without_calibration_every_second_reference_calibrates() -> None:
    both = bends(40)
    split = FormAnomalyDetector(JOINTS).fit(both[::2], both[1::2], 0.05)
    one = bends(1, seed=7)[0]
    alone = FormAnomalyDetector(JOINTS).fit(both, false_positive_rate=0.05)
    assert alone.judge(one) == split.judge(one)


def test_too_few_references_are_refused() -> None:
    with pytest.raises(ReferencesError, match="at least 8 reference repetitions"):
        FormAnomalyDetector(JOINTS).fit(bends(7), bends(99), 0.05)


def test_references_in_which_nothing_was_seen_are_refused() -> None:
    blind = [np.full((40, 3), np.nan)] * 10
    with pytest.raises(ReferencesError, match="film the whole body"):
        FormAnomalyDetector(JOINTS).fit(blind, bends(99), 0.05)


def test_a_joint_hidden_in_all_or_some_references_is_tolerated() -> None:
    references = bends(12)
    for index, one in enumerate(references):
        one[:, 0] = np.nan
        if index < 3:
            one[:, 1] = np.nan
    detector = FormAnomalyDetector(JOINTS).fit(references, bends(19, seed=1), 0.05)
    assert not detector.judge(bends(1, seed=5)[0]).is_anomaly


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_positive_rate"):
        FormAnomalyDetector(JOINTS).fit(bends(10), bends(10), rate)


def test_judging_without_references_is_refused() -> None:
    with pytest.raises(ReferencesError, match="call fit"):
        FormAnomalyDetector(JOINTS).judge(bends(1)[0])


def test_a_sequence_of_other_joints_is_refused(fitted: FormAnomalyDetector) -> None:
    with pytest.raises(ValueError, match=r"\(T >= 2, 3\)"):
        fitted.judge(np.zeros((30, 4)))


def test_a_channel_that_references_mostly_hide_is_not_used() -> None:
    references = bends(12)
    for one in references[:7]:
        one[:, 0] = np.nan
    detector = FormAnomalyDetector(JOINTS).fit(references, bends(19, seed=1), 0.05)
    other = bends(1, seed=5)[0]
    strange = other.copy()
    strange[:, 0] = 0.0
    assert detector.judge(strange) == detector.judge(other)


def test_differences_below_the_floor_count_little() -> None:
    one = bends(1, seed=4)[0]
    one[:, 0] += 8.0
    fine, coarse = (
        FormAnomalyDetector(JOINTS, np.array([floor, 0.0, 0.0])).fit(
            bends(20), bends(19, seed=1), 0.05
        )
        for floor in (0.0, 20.0)
    )
    assert fine.judge(one).is_anomaly
    assert not coarse.judge(one).is_anomaly


@pytest.mark.parametrize("floor", [np.nan, -1.0, np.inf])
def test_a_floor_that_is_no_difference_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        FormAnomalyDetector(JOINTS, np.array([0.0, floor, 0.0]))


def test_references_are_not_their_own_calibration() -> None:
    references = bends(20)
    with pytest.raises(ValueError, match="calibration repetition 1 is reference repetition 1"):
        FormAnomalyDetector(JOINTS).fit(references, references, 0.05)
    with pytest.raises(ValueError, match="calibration repetition 20 is reference repetition 4"):
        FormAnomalyDetector(JOINTS).fit(references, [*bends(19, 1), references[3]], 0.05)


def test_a_repetition_too_far_away_is_not_judged(general: FormAnomalyDetector) -> None:
    far = np.full((40, 3), 1e90)
    for detector in (general, general.personalised(bends(2))):
        assert "another unit" in detector.judge(far).abstained
    with pytest.raises(ReferencesError, match=r"own repetition 3 .*another unit"):
        general.personalised([*bends(2), far])


@given(st.floats(-1e29, 1e29), st.floats(0.0, 1e29), st.integers(0, 2**31))
def test_what_is_judged_has_a_finite_score(
    fitted: FormAnomalyDetector, level: float, size: float, seed: int
) -> None:
    one = level + size * np.random.default_rng(seed).normal(size=(10, 3))
    verdict = fitted.judge(one)
    assert np.isfinite(verdict.score)
    assert verdict.is_anomaly == (verdict.score > verdict.threshold)


def test_floors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="each of 3 channels"):
        FormAnomalyDetector(JOINTS, np.zeros(2))


def test_an_infinite_value_is_refused(fitted: FormAnomalyDetector) -> None:
    one = bends(1)[0]
    one[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinite"):
        fitted.judge(one)


def test_a_single_frame_is_refused(fitted: FormAnomalyDetector) -> None:
    with pytest.raises(ValueError, match="T >= 2"):
        fitted.judge(bends(1)[0][:1])


def athletes(n: int, seed: int, reps: int = 3) -> list[FloatArray]:
    """Return repetitions of people with an elbow of their own, ``reps`` of each in a row."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        habit = rng.normal(0.0, 12.0)
        found += [bend(rng, elbow_deg=habit) for _ in range(reps)]
    return found


@pytest.fixture(scope="module")
def general() -> FormAnomalyDetector:
    whose = [f"athlete {i // 4}" for i in range(160)]
    return FormAnomalyDetector(JOINTS).fit(
        athletes(20, seed=0), Calibration(athletes(40, seed=1, reps=4), whose), 0.05
    )


def test_own_repetitions_show_a_change_that_is_usual_among_others(
    general: FormAnomalyDetector,
) -> None:
    rng = np.random.default_rng(5)
    mine = [bend(rng) for _ in range(3)]
    changed = [bend(rng, elbow_deg=15.0) for _ in range(10)]
    personal = general.personalised(mine)
    found, usual = (
        float(np.mean([detector.judge(one).is_anomaly for one in changed]))
        for detector in (personal, general)
    )
    assert found >= 0.8 > 0.3 >= usual


def test_the_personal_threshold_keeps_its_rate_over_new_athletes(
    general: FormAnomalyDetector,
) -> None:
    found = athletes(30, seed=9, reps=4)
    alarms = [
        general.personalised(found[row : row + 2]).judge(one).is_anomaly
        for row in range(0, len(found), 4)
        for one in found[row + 2 : row + 4]
    ]
    assert np.mean(alarms) <= 0.12


def test_weight_zero_is_the_general_judgement(general: FormAnomalyDetector) -> None:
    one = bends(1, seed=3)[0]
    assert general.personalised(bends(2), weight=0.0).judge(one).score == pytest.approx(
        general.judge(one).score
    )


def test_own_repetitions_need_calibration_by_athlete(fitted: FormAnomalyDetector) -> None:
    with pytest.raises(
        ReferencesError, match="at least 19 athletes with 4 calibration repetitions each, got 0"
    ):
        fitted.personalised(bends(3))


def test_the_repetitions_of_few_athletes_support_no_personal_rate() -> None:
    whose = [index // 10 for index in range(40)]
    calibration = Calibration(athletes(4, seed=1, reps=10), whose)
    detector = FormAnomalyDetector(JOINTS).fit(athletes(8, seed=0), calibration, 0.05)
    with pytest.raises(ReferencesError, match=r"at least 19 athletes .* each, got 4"):
        detector.personalised(bends(3))
    assert detector.personalised(bends(3), false_positive_rate=0.2).false_positive_rate == 0.2


def test_more_own_repetitions_than_the_calibration_has_of_anyone_are_refused(
    general: FormAnomalyDetector,
) -> None:
    with pytest.raises(ReferencesError, match="with 5 calibration repetitions each, got 0"):
        general.personalised(bends(4))


def test_the_personal_rate_holds_over_draws_of_few_athletes() -> None:
    rate, alarms = 0.2, []
    for draw in range(12):
        whose = [index // 3 for index in range(12)]
        calibration = Calibration(athletes(4, 100 + draw), whose)
        detector = FormAnomalyDetector(JOINTS).fit(athletes(8, 200 + draw, 1), calibration, rate)
        new = athletes(15, 300 + draw)
        alarms += [
            detector.personalised(new[row : row + 2]).judge(new[row + 2]).is_anomaly
            for row in range(0, len(new), 3)
        ]
    # The coverage of one draw has a standard deviation of .16, their mean one of .05.
    assert np.mean(alarms) <= rate + 0.1


def test_without_a_rate_scores_rank_and_nothing_is_judged() -> None:
    references = bends(12)
    detector = FormAnomalyDetector(JOINTS).fit(references, false_positive_rate=None)
    threshold = FormAnomalyDetector(JOINTS).fit(references, bends(19, seed=1), 0.05)
    for one in (bends(1, seed=5)[0], bends(1, seed=5, knee_deg=40.0)[0]):
        verdict = detector.judge(one)
        assert verdict.score == threshold.judge(one).score
        assert not verdict.is_anomaly
        assert "only ranks" in verdict.abstained
    assert np.isfinite(detector.personalised(bends(2)).judge(references[0]).score)
    assert np.isnan(detector.false_positive_rate)


def test_own_repetitions_that_show_nothing_are_refused(general: FormAnomalyDetector) -> None:
    with pytest.raises(ReferencesError, match="own repetition 1 cannot be compared: fewer"):
        general.personalised([np.full((40, 3), np.nan)])


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_a_weight_outside_0_to_1_is_refused(general: FormAnomalyDetector, weight: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        general.personalised(bends(2), weight=weight)


def test_athletes_must_match_the_calibration() -> None:
    with pytest.raises(ValueError, match="one entry a sequence, got 1 for 2"):
        Calibration(bends(2), ["a"])


def test_a_saved_detector_judges_alike(general: FormAnomalyDetector, tmp_path: Path) -> None:
    personal = general.personalised(bends(3))
    for index, detector in enumerate((general, personal)):
        detector.save(tmp_path / f"{index}.npz")
        again = FormAnomalyDetector.load(tmp_path / f"{index}.npz")
        assert [again.judge(one) for one in bends(3, seed=8)] == [
            detector.judge(one) for one in bends(3, seed=8)
        ]
        assert again.channels == JOINTS
        assert again.false_positive_rate == 0.05


def test_a_loaded_detector_can_be_personalised(
    general: FormAnomalyDetector, tmp_path: Path
) -> None:
    general.save(tmp_path / "a.npz")
    again = FormAnomalyDetector.load(tmp_path / "a.npz").personalised(bends(3))
    one = bends(1, seed=8)[0]
    assert again.judge(one) == general.personalised(bends(3)).judge(one)


@pytest.mark.parametrize(("offset", "noise"), [(900.0, 0.2), (5000.0, 0.5), (1e5, 0.5), (1e8, 1.0)])
def test_where_the_zero_of_a_channel_lies_changes_no_judgement_of_a_saved_detector(
    offset: float, noise: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    wave = offset + 10.0 * np.sin(np.linspace(0.0, np.pi, 60))[:, None]
    good = [wave + rng.normal(0.0, noise) + rng.normal(0.0, noise, wave.shape) for _ in range(100)]
    detector = FormAnomalyDetector(("x",)).fit(good[:20], good[20:60], 0.05)
    detector.save(tmp_path / "a.npz")
    verdicts = [detector.judge(one) for one in good[60:]]
    assert [
        FormAnomalyDetector.load(tmp_path / "a.npz").judge(one) for one in good[60:]
    ] == verdicts
    assert np.mean([one.is_anomaly for one in verdicts]) <= 0.2


def test_a_model_of_another_version_is_refused(
    general: FormAnomalyDetector, tmp_path: Path
) -> None:
    general.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    arrays["format_version"] = np.array(99)
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(ReferencesError, match="version 99, this release reads version"):
        FormAnomalyDetector.load(tmp_path / "b.npz")
    del arrays["format_version"]
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(ReferencesError, match="no version"):
        FormAnomalyDetector.load(tmp_path / "c.npz")


@pytest.mark.parametrize("missing", ["spread", "forest_left", "numbers"])
def test_a_model_that_lacks_a_part_is_refused(
    general: FormAnomalyDetector, tmp_path: Path, missing: str
) -> None:
    general.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = {name: file[name] for name in file.files if name != missing}
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(ReferencesError, match="damaged"):
        FormAnomalyDetector.load(tmp_path / "b.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no model at all"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ReferencesError, match="not an anomaly model"):
        FormAnomalyDetector.load(tmp_path / "a.npz")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", format_version=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ReferencesError, match="not an anomaly model"):
        FormAnomalyDetector.load(tmp_path / "a.npz")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReferencesError, match=r"there is no anomaly model .*gone\.npz"):
        FormAnomalyDetector.load(tmp_path / "gone.npz")


def test_a_folder_that_does_not_exist_cannot_be_written(
    general: FormAnomalyDetector, tmp_path: Path
) -> None:
    with pytest.raises(ReferencesError, match="cannot write"):
        general.save(tmp_path / "no" / "a.npz")


def test_an_unfitted_detector_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ReferencesError, match="call fit"):
        FormAnomalyDetector(JOINTS).save(tmp_path / "a.npz")
