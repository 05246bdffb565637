"""The device's letterbox against OpenCV's, from the packed lines alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pose_analyzer.inference.device_letterbox import (
    Packing,
    aligned,
    layout,
    letterbox_batch,
    pack,
    packing_for,
    unpacked,
)
from pose_analyzer.inference.preprocess import Letterbox, network_input
from pose_analyzer.types import FloatArray, ImageArray


def picture(height: int, width: int) -> ImageArray:
    rng = np.random.default_rng(height * 10_000 + width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def letterboxed(images: list[ImageArray], boxes: list[Letterbox]) -> FloatArray:
    """Return what the device makes of pictures packed one behind the other."""
    packings = [packing_for(box) for box in boxes]
    starts = np.cumsum([0, *(aligned(packing.n_bytes) for packing in packings)])
    flat = np.zeros(starts[-1], dtype=np.uint8)
    for image, packing, start in zip(images, packings, starts, strict=False):
        pack(image, packing, flat[start : start + packing.n_bytes])
    layouts = [layout(*each) for each in zip(boxes, packings, starts.tolist(), strict=False)]
    out = torch.empty((len(images), 3, boxes[0].height, boxes[0].width))
    letterbox_batch(torch.from_numpy(flat), layouts, torch.tensor(layouts), out)
    return out.double().numpy()


@given(height=st.integers(1, 700), width=st.integers(1, 700))
@settings(max_examples=25, deadline=None)
def test_every_size_is_within_one_grey_level_of_opencv(height: int, width: int) -> None:
    image = picture(height, width)
    box = Letterbox.fit(image.shape, 128, 128)
    difference = letterboxed([image], [box]) - network_input([image], [box])
    assert np.abs(difference).max() * 255.0 < 1.01


@pytest.mark.parametrize("shape", [(1080, 1920), (720, 1280), (360, 640), (1920, 1080)])
def test_the_sizes_of_cameras_equal_opencv(shape: tuple[int, int]) -> None:
    image = picture(*shape)
    box = Letterbox.fit_rectangle(image.shape, 640, 32)
    expected = network_input([image], [box])
    np.testing.assert_allclose(letterboxed([image], [box]), expected, atol=1e-6)


def test_a_batch_of_mixed_sizes_equals_its_pictures() -> None:
    images = [picture(90, 160), picture(480, 270), picture(64, 64)]
    boxes = [Letterbox.fit(image.shape, 96, 96) for image in images]
    singly = [letterboxed([image], [box])[0] for image, box in zip(images, boxes, strict=True)]
    np.testing.assert_array_equal(letterboxed(images, boxes), singly)


@pytest.mark.parametrize(
    ("shape", "lines_each", "share"),
    [((1080, 1920), 1, 1 / 3), ((2160, 3840), 2, 1 / 3), ((360, 640), 0, 1.0)],
)
def test_only_lines_that_are_sampled_are_sent(
    shape: tuple[int, int], lines_each: int, share: float
) -> None:
    packing = packing_for(Letterbox.fit(shape, 640, 640))
    assert packing.lines_each == lines_each
    assert packing.n_bytes == pytest.approx(share * 3 * shape[0] * shape[1])


def test_a_view_into_a_larger_picture_is_packed_as_its_copy() -> None:
    whole = picture(200, 300)
    view = whole[10:190:2, 20:280]
    box = Letterbox.fit(view.shape, 32, 32)
    np.testing.assert_array_equal(letterboxed([view], [box]), letterboxed([view.copy()], [box]))


def test_a_picture_on_the_device_is_taken_whole() -> None:
    box = Letterbox.fit((1080, 1920), 640, 640)
    assert unpacked(box) == Packing(0, None, 3 * 1080 * 1920)


def test_the_border_is_grey() -> None:
    box = Letterbox.fit((10, 100), 64, 64)
    found = letterboxed([picture(10, 100)], [box])[0]
    border = np.ones((64, 64), dtype=bool)
    border[box.top : box.top + box.inner_height] = False
    np.testing.assert_allclose(found[:, border], 114 / 255, atol=1e-6)
