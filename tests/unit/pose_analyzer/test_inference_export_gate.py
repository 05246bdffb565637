"""What the gate of an export measures, on people made by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pose_analyzer.inference.export_gate import TruePeople, compare, oks_map, people_as_truth
from pose_analyzer.skeleton import KEYPOINT_INDEX, N_COCO, N_KEYPOINTS
from pose_analyzer.types import PoseDetections


def people(*scores: float, shift_px: float = 0.0) -> PoseDetections:
    """Return one person for each score, side by side, 200 x 400 pixels."""
    rng = np.random.default_rng(2)
    figure = rng.uniform([0.0, 0.0], [200.0, 400.0], (N_KEYPOINTS, 2))
    left = 300.0 * np.arange(len(scores))
    keypoints = figure[None] + np.stack([left + shift_px, left * 0.0], axis=-1)[:, None]
    keypoints[:, N_COCO:] = np.nan
    confidence = np.where(np.isnan(keypoints[..., 0]), 0.0, 0.9)
    boxes = np.stack([left, left * 0.0, left + 200.0, left * 0.0 + 400.0], axis=-1)
    return PoseDetections(keypoints, confidence, boxes, np.array(scores))


def test_the_source_itself_loses_nothing() -> None:
    frames = [people(0.9, 0.8), people(0.7), people()]
    same = compare(frames, frames)
    assert (same.map_source, same.angle_deg, same.keypoint_loss) == (1.0, 0.0, 0.0)
    assert (same.n_frames, same.n_people) == (3, 3)
    assert same.holds


@given(st.floats(0.0, 300.0))
def test_a_larger_shift_never_loses_less(shift_px: float) -> None:
    source = [people(0.9)]
    near = compare(source, [people(0.9, shift_px=shift_px)])
    far = compare(source, [people(0.9, shift_px=shift_px + 10.0)])
    assert 0.0 <= near.keypoint_loss <= far.keypoint_loss <= 1.0


def test_a_person_missed_in_one_of_two_frames_loses_half() -> None:
    lost = compare([people(0.9), people(0.9)], [people(0.9), people()])
    # 51 of the 101 recalls are reached: 0, 0.01, ..., 0.50.
    assert lost.keypoint_loss == pytest.approx(1.0 - 51.0 / 101.0)
    assert not lost.holds


def test_whom_the_source_was_not_sure_of_changes_nothing() -> None:
    sure = people(0.9, 0.3)
    assert compare([sure], [people(0.9, 0.6)]).keypoint_loss == 0.0
    assert compare([sure], [people(0.9)]).keypoint_loss == 0.0


def test_a_person_who_is_not_there_costs_precision() -> None:
    found = people(0.8, 0.9)
    swapped = dataclasses.replace(found, keypoints=found.keypoints[::-1], boxes=found.boxes[::-1])
    # The best of the two is nobody: precision is a half at every recall.
    truth = [people_as_truth(people(0.9, 0.9))]
    assert oks_map([swapped], truth) == pytest.approx(1.0)
    assert oks_map([people(0.8, 0.9)], [people_as_truth(people(0.9))]) == pytest.approx(0.5)


def test_a_bent_knee_is_told_in_degrees() -> None:
    source, export = people(0.9), people(0.9)
    hip, knee, ankle = (KEYPOINT_INDEX[f"left_{name}"] for name in ("hip", "knee", "ankle"))
    for one, foot in ((source, (100.0, 300.0)), (export, (110.0, 300.0))):
        one.keypoints[0, [hip, knee, ankle]] = [(100.0, 100.0), (100.0, 200.0), foot]
    turned = math.degrees(math.atan(0.1))
    moved = compare([source], [export])
    # Only the knee and the shin's lean hang on the ankle; the foot is not seen.
    assert moved.angle_deg * moved.n_angles == pytest.approx(2.0 * turned)


def test_a_keypoint_that_the_source_is_not_sure_of_gives_no_angle() -> None:
    source = people(0.9)
    source.confidence[0, KEYPOINT_INDEX["left_knee"]] = 0.2
    fewer = compare([source], [people(0.9)])
    assert fewer.n_angles < compare([people(0.9)], [people(0.9)]).n_angles


def test_the_true_keypoints_judge_source_and_export_alike() -> None:
    truth = people_as_truth(people(0.9))
    judged = compare([people(0.9)], [people(0.9, shift_px=30.0)], [truth])
    assert judged.true_map_source == 1.0
    assert judged.true_map_export == pytest.approx(judged.map_source)


def test_nobody_to_compare_is_not_a_measurement() -> None:
    nobody = compare([people()], [people()])
    assert math.isnan(nobody.keypoint_loss)
    assert math.isnan(nobody.angle_deg)
    assert not nobody.holds


def test_an_export_that_finds_nobody_has_lost_everything() -> None:
    assert compare([people(0.9)], [people()]).keypoint_loss == 1.0
    truth = TruePeople(np.full((0, N_KEYPOINTS, 2), np.nan), np.empty(0), np.empty(0, dtype=bool))
    assert math.isnan(oks_map([people(0.9)], [truth]))


def test_the_sentence_tells_both_figures() -> None:
    sentence = compare([people(0.9)], [people(0.9)]).sentence()
    assert "keypoint loss 0.00%" in sentence
    assert "0.00 deg" in sentence
