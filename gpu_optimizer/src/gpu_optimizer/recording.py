"""What was recorded while a program ran, from a GPU or from a CPU, and how its owners are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gpu_optimizer.memory_walk import Walker
from gpu_optimizer.types import AllocationTrace

Attribution = Literal["metadata", "memory_stats", "dispatch"]
Addresses = Mapping[int, str]
"""Address of a storage -> full name of the module that it belongs to."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An allocation that failed.

    Attributes
    ----------
    event : int
        How many events were before it.
    asked_bytes, device_free_bytes : int or None
        What was asked of the allocator, and what the driver still had; None where nobody said so.
    """

    event: int
    asked_bytes: int | None
    device_free_bytes: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A trace and all that is needed to tell whose its blocks are.

    Attributes
    ----------
    trace : AllocationTrace
        The tag of each event is where the program was: ``"phase|module|"``.
    addresses : tuple of int
        Where each block lies, by its number.
    walk : callable
        Walks through the trace and looks at the allocator.
    attribution : {"metadata", "memory_stats", "dispatch"}
        How the tags came to the events: by the allocator itself, by counting allocations at each
        change of tag, or by looking at every operator.
    n_lost : int
        Events that the bounded history had to forget.
    failure : Failure or None
        Where memory ran out.
    """

    trace: AllocationTrace
    addresses: tuple[int, ...]
    walk: Walker
    attribution: Attribution
    n_lost: int = 0
    failure: Failure | None = None


@dataclass(slots=True)
class StorageNames:
    """Whose storages are known by name, from the model and its optimizers.

    Attributes
    ----------
    parameters : dict of int to str
        Parameters and buffers.
    gradients, states : dict of int to str
        Whatever was a gradient or a part of an optimizer's state at any look.
    """

    parameters: dict[int, str] = field(default_factory=dict)
    gradients: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    _owners: dict[int, str] = field(default_factory=dict)

    def look_at_model(self, model: nn.Module) -> None:
        """Note all parameters, buffers and gradients."""
        for name, tensor in model.named_buffers():
            self.parameters.setdefault(_address(tensor), _owner(name))
        for name, parameter in model.named_parameters():
            owner = _owner(name)
            self._owners[id(parameter)] = owner
            self.parameters.setdefault(_address(parameter), owner)
            if parameter.grad is not None:
                self.gradients[_address(parameter.grad)] = owner

    def look_at_optimizer(self, optimizer: Optimizer) -> None:
        """Note the gradients and the state of the parameters that it steps."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                owner = self._owners.get(id(parameter), "")
                if parameter.grad is not None:
                    self.gradients[_address(parameter.grad)] = owner
                for value in state_tensors(optimizer.state.get(parameter)):
                    self.states[_address(value)] = owner

    def forget_objects(self) -> None:
        """Keep names and addresses alone."""
        self._owners.clear()


def state_tensors(state: object) -> Iterator[torch.Tensor]:
    """Yield the tensors of the state that an optimizer keeps, however deep."""
    if isinstance(state, torch.Tensor):
        yield state
        return
    inner: Iterable[object] = ()
    if isinstance(state, Mapping):
        inner = state.values()
    elif isinstance(state, list | tuple):
        inner = state
    for value in inner:
        yield from state_tensors(value)


def _owner(name: str) -> str:
    """Return the module of a parameter, as it stands in tags."""
    return name.rpartition(".")[0].replace("|", "/")


def _address(tensor: torch.Tensor) -> int:
    """Return where a tensor lies, a sparse one its values; 0 for what has no memory (yet)."""
    if tensor.layout == torch.sparse_coo:
        tensor = tensor._values()
    if tensor.layout != torch.strided or is_lazy(tensor):
        return 0
    return tensor.untyped_storage().data_ptr()
