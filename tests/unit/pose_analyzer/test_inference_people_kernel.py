"""The kernels that decode on a GPU, run by Triton's interpreter, equal PyTorch's operations."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pose_analyzer.inference.device_decode import Cells, DecodeConfig, decode_plainly

CELLS = Cells.of_input(64, 96, (8, 16, 32), torch.device("cpu"))
N_CELLS = len(CELLS.strides)
# Triton chooses between interpreter and compiler when it is imported, which PyTorch may have done.
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(
    not IS_INTERPRETED, reason="run by test_all_others_hold_under_the_interpreter"
)


@pytest.mark.skipif(IS_INTERPRETED, reason="it is what runs this")
def test_all_others_hold_under_the_interpreter() -> None:
    pytest.importorskip("triton")
    tests = subprocess.run(  # noqa: S603 - this file, by this interpreter
        [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout[-4000:]
    assert "6 passed, 1 skipped" in tests.stdout


def launch(
    raw: tuple[torch.Tensor, torch.Tensor, torch.Tensor], config: DecodeConfig
) -> torch.Tensor:
    from pose_analyzer.inference.people_kernel import launch

    return launch(*raw, CELLS, config)


def raw_output(seed: int, n_classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes, scores, keypoints = (
        torch.randn((2, n_rows, N_CELLS), generator=generator) for n_rows in (64, n_classes, 51)
    )
    return 4.0 * boxes, 2.0 * scores, keypoints


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    is_somebody = expected[..., 4] > 0.0
    assert torch.equal(found[..., 4] > 0.0, is_somebody)
    torch.testing.assert_close(found[is_somebody], expected[is_somebody], atol=1e-3, rtol=1e-5)


@interpreted
@pytest.mark.parametrize(("n_classes", "n_people"), [(1, 3), (1, 64), (3, 64)])
def test_the_people_are_the_same(n_classes: int, n_people: int) -> None:
    raw = raw_output(n_people, n_classes)
    config = DecodeConfig(iou=0.4, n_people=n_people)
    expected = decode_plainly(*raw, CELLS, config)
    assert_same(launch(raw, config), expected)
    assert bool((expected[..., 4] > 0.0).any())


@interpreted
def test_the_order_in_memory_does_not_matter() -> None:
    boxes, scores, keypoints = raw_output(3, 1)
    turned = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (boxes, keypoints)]
    config = DecodeConfig(n_people=3)
    expected = decode_plainly(boxes, scores, keypoints, CELLS, config)
    assert_same(launch((turned[0], scores, turned[1]), config), expected)


@interpreted
def test_a_picture_without_people_has_none_beside_one_with_many() -> None:
    boxes, scores, keypoints = raw_output(4, 1)
    scores[0] -= 50.0
    found = launch((boxes, scores, keypoints), DecodeConfig(n_people=3))
    assert not found[0, :, 4].any()
    assert bool(found[1, :, 4].all())


@interpreted
def test_of_equally_sure_cells_the_first_is_taken() -> None:
    boxes, scores, keypoints = raw_output(5, 1)
    config = DecodeConfig(n_people=1)
    first = torch.full_like(scores, -9.0)
    first[..., 0] = 0.0
    expected = decode_plainly(boxes, first, keypoints, CELLS, config)
    assert_same(launch((boxes, torch.zeros_like(scores), keypoints), config), expected)
