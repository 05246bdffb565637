"""Letterboxing: where the picture lands, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from pose_analyzer.inference.preprocess import PADDING_GREY, Letterbox, network_input

SHAPES = [(1080, 1920, 3), (1920, 1080, 3), (360, 640, 3), (641, 479, 3), (1, 1, 3), (3, 2000, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_points_survive_the_way_to_the_network_and_back(shape: tuple[int, ...]) -> None:
    points = np.random.default_rng(0).uniform(-50.0, 2000.0, size=(4, 17, 2))
    box = Letterbox.fit(shape, 640, 640)
    np.testing.assert_allclose(box.to_source(box.to_network(points)), points, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_corners_of_the_picture_are_the_corners_of_its_place(shape: tuple[int, ...]) -> None:
    box = Letterbox.fit(shape, 640, 640)
    corners = box.to_network(np.array([[0.0, 0.0], [shape[1], shape[0]]]))
    expected = [[box.left, box.top], [box.left + box.inner_width, box.top + box.inner_height]]
    np.testing.assert_allclose(corners, expected, atol=1e-9)
    assert 0 <= box.left <= box.left + box.inner_width <= 640
    assert 0 <= box.top <= box.top + box.inner_height <= 640


@pytest.mark.parametrize("shape", SHAPES)
def test_the_picture_is_centred_to_within_one_pixel(shape: tuple[int, ...]) -> None:
    box = Letterbox.fit(shape, 640, 640)
    assert box.width - box.inner_width - 2 * box.left in (0, 1)
    assert box.height - box.inner_height - 2 * box.top in (0, 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rectangle_has_the_least_padding_of_its_stride(shape: tuple[int, ...]) -> None:
    box = Letterbox.fit_rectangle(shape, 640, 32)
    assert box.height % 32 == 0
    assert box.width % 32 == 0
    assert 0 <= box.height - box.inner_height < 32
    assert 0 <= box.width - box.inner_width < 32


def test_a_wide_clip_needs_little_more_than_half_a_square() -> None:
    box = Letterbox.fit_rectangle((1080, 1920, 3), 640, 32)
    assert (box.height, box.width) == (384, 640)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        Letterbox.fit((0, 640, 3), 640, 640)


def test_the_tensor_is_rgb_in_0_to_1_with_a_grey_border() -> None:
    image = np.zeros((320, 640, 3), dtype=np.uint8)
    image[..., 2] = 255  # red, in BGR
    tensor = network_input([image], [Letterbox.fit(image.shape, 640, 640)])
    assert tensor.shape == (1, 3, 640, 640)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0, :, 320, 320], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(tensor[0, :, 10, 320], PADDING_GREY / 255.0, rtol=1e-6)


def test_a_batch_equals_its_pictures_one_by_one() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, size=shape, dtype=np.uint8) for shape in SHAPES]
    boxes = [Letterbox.fit(shape, 320, 320) for shape in SHAPES]
    singly = [network_input([image], [box]) for image, box in zip(images, boxes, strict=True)]
    np.testing.assert_array_equal(network_input(images, boxes), np.concatenate(singly))


def test_a_picture_of_the_networks_size_is_not_resampled() -> None:
    image = np.random.default_rng(2).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    tensor = network_input([image], [Letterbox.fit(image.shape, 64, 64)])
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0)[..., ::-1] * 255.0, image, atol=1e-4)


def test_a_view_that_is_not_contiguous_is_taken_too() -> None:
    image = np.random.default_rng(3).integers(0, 256, size=(90, 160, 3), dtype=np.uint8)
    mirrored = image[:, ::-1]
    box = Letterbox.fit(image.shape, 64, 64)
    np.testing.assert_array_equal(
        network_input([mirrored], [box]), network_input([np.ascontiguousarray(mirrored)], [box])
    )
