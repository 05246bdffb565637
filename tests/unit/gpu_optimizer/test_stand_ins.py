from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from gpu_optimizer.stand_ins import inputs_standing_in, standing_in


@pytest.fixture
def _fake_mode() -> Iterator[None]:
    with FakeTensorMode(allow_fallback_kernels=False):
        yield


class Tied(nn.Module):
    """Tied weights, a frozen bias, and a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.register_buffer("counts", torch.zeros(5, dtype=torch.long))


def test_a_model_that_exists_gets_stand_ins_and_stays_as_it_is() -> None:
    model = Tied()
    before = dict(model.named_parameters())
    with FakeTensorMode(allow_fallback_kernels=False):
        found = standing_in(model)
    assert isinstance(found, Tied)
    assert found is not model
    assert all(isinstance(one, FakeTensor) for one in (*found.parameters(), *found.buffers()))
    assert found.second.weight is found.first.weight
    assert not found.first.bias.requires_grad
    assert found.counts.dtype == torch.long
    assert all(one is before[name] for name, one in model.named_parameters())


def test_a_model_of_a_device_that_is_not_here_is_as_good_as_one_of_the_cpu() -> None:
    with FakeTensorMode(allow_fallback_kernels=False):
        for device in ("cuda", "meta"):
            found = standing_in(nn.Linear(3, 2, device=device))
            assert {tensor.device.type for tensor in found.parameters()} == {"cpu"}


@pytest.mark.usefixtures("_fake_mode")
def test_a_model_of_fake_tensors_is_taken_as_it_is() -> None:
    model = nn.Linear(3, 3)
    assert standing_in(model) is model


def test_inputs_of_any_nesting_are_replaced_and_other_values_kept() -> None:
    rows = torch.zeros(2, 3)[:, ::2]
    with FakeTensorMode(allow_fallback_kernels=False):
        found = inputs_standing_in({"pair": (rows, 7), "name": "a"})
    assert isinstance(found, dict)
    stand_in, number = found["pair"]
    assert isinstance(stand_in, FakeTensor)
    assert stand_in.stride() == rows.stride()
    assert (number, found["name"]) == (7, "a")


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: None, TypeError, "must return an nn.Module, got NoneType"),
        (lambda: nn.Linear, TypeError, "got the class Linear"),
        (lambda: nn.LazyLinear(3), ValueError, "lazy parameters: give their sizes"),
    ],
)
def test_what_is_no_model_is_an_error(
    make: Callable[[], object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        standing_in(make())
