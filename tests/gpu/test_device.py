"""The locked build of torch computes on this machine's GPU what it computes on the processor."""

from __future__ import annotations

import torch


def test_a_convolution_agrees_with_the_processor() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand((1, 3, 64, 64), generator=generator)
    weights = torch.rand((8, 3, 3, 3), generator=generator)
    expected = torch.nn.functional.conv2d(image.double(), weights.double())
    torch.backends.cudnn.allow_tf32 = False
    measured = torch.nn.functional.conv2d(image.cuda(), weights.cuda()).cpu().double()
    torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-4)


def test_the_gpu_says_how_much_memory_it_has() -> None:
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    assert 0 < free_bytes <= total_bytes
