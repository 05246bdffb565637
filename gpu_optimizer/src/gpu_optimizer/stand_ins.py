"""Fake tensors in place of those that a user's functions made otherwise.

What `fake_trace` traces has to be made of fake tensors of the CPU. A user may well hand over a
model that exists already, or make tensors on a GPU or on the meta device: shapes, types and what is
to be learned are all that counts, so they get stand-ins, and the user's own stay as they are.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree


def standing_in(model: object) -> nn.Module:
    """Return a model with a fake tensor for each parameter and buffer.

    To be called under a fake mode. The model itself is returned if all its tensors are fake; a
    copy, without a byte of its weights, if any is not.

    Parameters
    ----------
    model : object
        What a user's function returned.

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        If it has parameters whose size is known only after a forward pass.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model_fn must return an nn.Module, got {_kind(model)}")
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    if any(map(is_lazy, tensors.values())):
        raise ValueError(
            "the model has lazy parameters: give their sizes, nn.Linear for nn.LazyLinear"
        )
    if not any(map(_needs_stand_in, tensors.values())):
        return model
    memo: dict[int, object] = {key: _stand_in(tensor) for key, tensor in tensors.items()}
    return copy.deepcopy(model, memo)


def inputs_standing_in(inputs: object) -> object:
    """Return a tensor, or a mapping or sequence of them however deep, with fake ones in place."""
    return pytree.tree_map_only(torch.Tensor, _stand_in, inputs)


def _needs_stand_in(tensor: torch.Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) or tensor.device.type != "cpu"


def _stand_in(tensor: torch.Tensor) -> torch.Tensor:
    """Return a fake tensor like another one; those that need none, and sparse ones, themselves."""
    if not _needs_stand_in(tensor) or tensor.layout != torch.strided:
        return tensor
    fake = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake.requires_grad_(tensor.requires_grad)


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
