from __future__ import annotations

import importlib.util

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from gpu_optimizer.errors import GpuOptimizerError, UnknownModelError
from gpu_optimizer.models import find_model, known_names


def test_the_registry_has_the_architectures_that_were_promised() -> None:
    assert known_names() == ("llama-7b", "resnet50", "vit_b_16", "yolo11n-pose")


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        ("resnet50", 25_557_032),
        ("vit_b_16", 86_567_656),
        ("torchvision:mobilenet_v2", 3_504_872),
        ("timm:resnet18", 11_689_512),
        ("resnet18", 11_689_512),
    ],
)
def test_models_have_the_parameters_that_their_papers_count(name: str, n_parameters: int) -> None:
    with FakeTensorMode():
        model = find_model(name).workload(1).model_fn()
    assert sum(parameter.numel() for parameter in model.parameters()) == n_parameters
    assert all(isinstance(parameter, FakeTensor) for parameter in model.parameters())


def test_the_default_dtype_is_that_of_models_made_apart() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode():
            model = find_model("timm:resnet18").workload(1).model_fn()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_an_unknown_name_is_answered_with_those_that_look_alike() -> None:
    with pytest.raises(UnknownModelError, match=r"known are llama-7b.*did you mean.*resnet50"):
        find_model("resnet5O")


def test_a_name_like_nothing_is_answered_without_a_guess() -> None:
    with pytest.raises(UnknownModelError) as caught:
        find_model("timm:zzzzqqqq")
    assert "did you mean" not in str(caught.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(GpuOptimizerError, match=r"pip install 'gpu-optimizer\[models\]'"):
        find_model("timm:resnet18")


def test_a_sequence_without_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="seq must be at least 1, got 0"):
        find_model("llama-7b").workload(1, 0)
