"""Decoding on the device equals decoding on the host."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pose_analyzer.inference.decode import decode_yolo_pose
from pose_analyzer.inference.device_decode import Cells, DecodeConfig, decode_on_device
from pose_analyzer.inference.preprocess import NetworkArray

HEIGHT, WIDTH, STRIDES = 64, 96, (8, 16, 32)
CELLS = Cells.of_input(HEIGHT, WIDTH, STRIDES, torch.device("cpu"))
N_CELLS = len(CELLS.strides)


def raw_output(seed: int, n_pictures: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return boxes that overlap much, scores on both sides of the limit, and keypoints."""
    generator = torch.Generator().manual_seed(seed)
    boxes = 4.0 * torch.randn((n_pictures, 64, N_CELLS), generator=generator)
    scores = 2.0 * torch.randn((n_pictures, 1, N_CELLS), generator=generator)
    keypoints = torch.randn((n_pictures, 51, N_CELLS), generator=generator)
    return boxes, scores, keypoints


def as_exported(boxes: torch.Tensor, scores: torch.Tensor, keypoints: torch.Tensor) -> NetworkArray:
    """Return the output that an exported network has, (B, 56, N), written out in NumPy."""
    centres, strides = CELLS.centres.numpy(), CELLS.strides.numpy()
    logits = boxes.numpy().reshape(len(boxes), 4, 16, N_CELLS)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    left, top, right, bottom = np.moveaxis(np.einsum("bskn,k->bsn", shares, np.arange(16.0)), 1, 0)
    x1, y1 = centres[:, 0] - left, centres[:, 1] - top
    x2, y2 = centres[:, 0] + right, centres[:, 1] + bottom
    corners = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1) * strides[:, 0]
    points = keypoints.numpy().reshape(len(boxes), 17, 3, N_CELLS).copy()
    points[:, :, :2] = (2.0 * points[:, :, :2] + centres.T - 0.5) * strides[:, 0]
    points[:, :, 2] = sigmoid(points[:, :, 2])
    rows = [corners, sigmoid(scores.numpy()), points.reshape(len(boxes), 51, N_CELLS)]
    output: NetworkArray = np.concatenate(rows, axis=1).astype(np.float32)
    return output


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    share: npt.NDArray[np.float32] = 1.0 / (1.0 + np.exp(-logits))
    return share


@given(seed=st.integers(0, 10_000), confidence=st.sampled_from([0.1, 0.25, 0.6]))
@settings(max_examples=30, deadline=None)
def test_the_people_are_those_of_the_host(seed: int, confidence: float) -> None:
    raw = raw_output(seed)
    config = DecodeConfig(confidence, iou=0.4, n_people=N_CELLS)
    found = decode_on_device(*raw, CELLS, config).double().numpy()
    for rows, people in zip(
        found, decode_yolo_pose(as_exported(*raw), confidence, iou=0.4), strict=True
    ):
        kept = rows[rows[:, 4] > 0.0]
        np.testing.assert_allclose(kept[:, 4], people.scores, atol=1e-5)
        np.testing.assert_allclose(kept[:, :4], people.boxes, atol=1e-2)
        points = kept[:, 5:].reshape(-1, 17, 3)
        np.testing.assert_allclose(points[..., :2], people.keypoints, atol=1e-2)
        np.testing.assert_allclose(points[..., 2], people.confidence, atol=1e-5)


@pytest.mark.parametrize("n_people", [1, 3, 500])
def test_the_shape_does_not_depend_on_what_is_seen(n_people: int) -> None:
    boxes, scores, keypoints = raw_output(1)
    config = DecodeConfig(n_people=n_people)
    shape = (2, n_people, 56)
    for logits in (scores, torch.full_like(scores, -20.0), torch.full_like(scores, 20.0)):
        assert decode_on_device(boxes, logits, keypoints, CELLS, config).shape == shape


def test_nobody_has_score_zero() -> None:
    boxes, scores, keypoints = raw_output(2)
    found = decode_on_device(boxes, scores - 50.0, keypoints, CELLS, DecodeConfig())
    assert not found[..., 4].any()


def test_a_crowd_larger_than_the_limit_keeps_its_surest() -> None:
    raw = raw_output(3)
    everyone = decode_on_device(*raw, CELLS, DecodeConfig(n_people=N_CELLS))
    some = decode_on_device(*raw, CELLS, DecodeConfig(n_people=5))
    torch.testing.assert_close(some, everyone[:, :5])
