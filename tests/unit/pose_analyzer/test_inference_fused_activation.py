"""Biases and activations in one step: the network gives what it gave, by both ways of doing it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pose_analyzer.inference.fused_activation import (
    BiasActivation,
    PointwiseProduct,
    align_channels,
    fuse_activations,
)
from pose_analyzer.inference.network_precision import move_network
from pose_analyzer.inference.pose_network import untrained_network

CPU = torch.device("cpu")
# Triton chooses between interpreter and compiler when it is imported, which PyTorch may have done.
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.skipif(IS_INTERPRETED, reason="it is what runs the others that need it")
def test_the_kernel_holds_under_the_interpreter() -> None:
    pytest.importorskip("triton")
    tests = subprocess.run(  # noqa: S603 - this file, by this interpreter
        [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", "-k", "plain"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout[-4000:]
    assert "8 passed" in tests.stdout


@pytest.mark.skipif(not IS_INTERPRETED, reason="run by test_the_kernel_holds_under_the_interpreter")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("is_silu", [True, False])
@pytest.mark.parametrize("n_channels", [16, 51])
def test_the_kernel_equals_the_plain_way(
    n_channels: int, dtype: torch.dtype, *, is_silu: bool
) -> None:
    from pose_analyzer.inference.activation_kernel import launch

    generator = torch.Generator().manual_seed(n_channels)
    values = (4.0 * torch.randn((2, n_channels, 5, 7), generator=generator)).to(dtype)
    values = values.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(n_channels, generator=generator)
    expected = BiasActivation(bias, is_silu=is_silu)(values)
    widened = torch.empty_like(values, dtype=torch.float32)
    launch(values, bias, widened, is_silu=is_silu)
    launch(values, bias, values, is_silu=is_silu)
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(widened.to(dtype), values, atol=0.0, rtol=0.0)


def test_a_fused_network_gives_what_it_gave() -> None:
    torch.manual_seed(2)
    network = untrained_network()
    pictures = torch.rand((2, 3, 64, 96))
    with torch.inference_mode():
        expected = [output.clone() for output in network(pictures)]
        move_network(network, CPU, "fp32", is_fused=True)
        found = network(pictures.contiguous(memory_format=torch.channels_last))
    for output, before in zip(found, expected, strict=True):
        torch.testing.assert_close(output, before, atol=1e-5, rtol=1e-5)


def test_every_convolution_with_an_activation_is_fused() -> None:
    module = untrained_network().module
    n_fused = fuse_activations(module)
    plain = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert sum(part.bias is not None for part in plain) == 9
    assert n_fused == 87
    assert fuse_activations(module) == 0


def test_aligned_channels_change_nothing() -> None:
    torch.manual_seed(3)
    network = untrained_network()
    keypoints = network.head.get_submodule("cv4.0")
    assert isinstance(keypoints, torch.nn.Sequential)
    values = torch.rand((1, 64, 6, 10))
    with torch.inference_mode():
        expected = keypoints(values)
        align_channels(keypoints)
        found = keypoints(values)
    convolutions = [part for part in keypoints.modules() if isinstance(part, torch.nn.Conv2d)]
    channels = [(part.in_channels, part.out_channels) for part in convolutions]
    assert channels == [(64, 64), (64, 64), (64, 51)]
    assert channels == [tuple(part.weight.shape[1::-1]) for part in convolutions]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_branches_with_groups_of_channels_are_left_alone() -> None:
    scores = untrained_network().head.get_submodule("cv3.0")
    assert isinstance(scores, torch.nn.Sequential)
    before = [parameter.shape for parameter in scores.parameters()]
    align_channels(scores)
    assert [parameter.shape for parameter in scores.parameters()] == before


def test_the_bias_stays_in_fp32_and_rounds_once() -> None:
    step = BiasActivation(torch.tensor([1.0 + 2.0**-12]), is_silu=False).half()
    values = torch.full((1, 1, 1, 1), 2.0**-11, dtype=torch.float16)
    # Rounded first, the bias would be 1 and the sum, half-way to the next step, 1 as well.
    assert float(step(values)) == 1.0 + 2.0**-10


def test_the_last_activations_of_fp16_come_in_fp32() -> None:
    network = untrained_network()
    move_network(network, CPU, "fp16", is_fused=True)
    given: list[torch.dtype] = []
    for layer in network.last_convolutions():
        assert isinstance(layer, PointwiseProduct)
        layer.register_forward_pre_hook(
            lambda _, values: given.append(values[0].dtype), prepend=True
        )
    with torch.inference_mode():
        outputs = network(torch.rand((1, 3, 64, 64), dtype=torch.float16))
    assert given == 9 * [torch.float32]
    assert {output.dtype for output in outputs} == {torch.float32}
