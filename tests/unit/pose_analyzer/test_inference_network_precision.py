"""What a precision makes of a network, and that the settings of the process come back."""

from __future__ import annotations

import contextlib

import pytest
import torch

from pose_analyzer.inference.network_precision import Precision, library_choices, move_network
from pose_analyzer.inference.pose_network import untrained_network

CPU = torch.device("cpu")


def test_fp16_keeps_the_last_convolutions_and_their_outputs_in_fp32() -> None:
    network = untrained_network()
    assert move_network(network, CPU, "fp16") == torch.float16
    last = network.last_convolutions()
    assert len(last) == 9
    kept = {id(each) for convolution in last for each in convolution.parameters()}
    types = {id(each): each.dtype for each in network.module.parameters()}
    assert {types[each] for each in kept} == {torch.float32}
    assert {dtype for each, dtype in types.items() if each not in kept} == {torch.float16}
    with torch.inference_mode():
        outputs = network(torch.rand((1, 3, 64, 64), dtype=torch.float16))
    assert {output.dtype for output in outputs} == {torch.float32}


def test_fp16_gives_nearly_what_fp32_does() -> None:
    torch.manual_seed(2)
    network = untrained_network()
    pictures = torch.rand((1, 3, 64, 64))
    with torch.inference_mode():
        expected = [output.clone() for output in network(pictures)]
        move_network(network, CPU, "fp16")
        found = network(pictures.half())
    for output, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(output, whole, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_all_else_is_fp32(precision: Precision) -> None:
    network = untrained_network()
    assert move_network(network, CPU, precision) == torch.float32
    assert {each.dtype for each in network.module.parameters()} == {torch.float32}


def test_the_settings_of_the_process_come_back() -> None:
    def settings() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = settings()
    choices: list[tuple[Precision, bool]] = [("fp16", False), ("tf32", True), ("fp32", False)]
    for precision, is_rounded in choices:
        with contextlib.suppress(KeyError), library_choices(precision):
            assert settings() == (is_rounded, is_rounded, True)
            raise KeyError
        assert settings() == before
