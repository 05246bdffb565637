"""What was recorded while a program ran, from a GPU or from a CPU, and how its owners are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gpu_optimizer.memory_walk import Walker
from gpu_optimizer.types import AllocationTrace

MODEL: Final = "(model)"
"""The module name of what the whole model does itself, outside of its parts."""

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
class NamedStorages:
    """Owners by the address of a storage, at one time or at any."""

    parameters: dict[int, str] = field(default_factory=dict)
    gradients: dict[int, str] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class StorageNames:
    """Whose storages are known by name, from the model and its optimizers.

    Addresses are used again, so what is known of them is kept by when it was.

    Attributes
    ----------
    at_start, at_end : NamedStorages
        Of the blocks that were there when the trace began, and when it ended.
    gradients : dict of int to list of str
        The owners of whatever was a gradient when an optimizer stepped, the latest first.
    states : dict of int to str
        Whatever was a part of an optimizer's state when it stepped.
    sizes : dict of str to set of int
        Bytes of each of a module's parameters: gradients that no optimizer steps have them, too.
    """

    at_start: NamedStorages = field(default_factory=NamedStorages)
    at_end: NamedStorages = field(default_factory=NamedStorages)
    gradients: dict[int, list[str]] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    sizes: dict[str, set[int]] = field(default_factory=dict)
    _owners: dict[int, str] = field(default_factory=dict)

    def begin(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        """Note what is there before the trace."""
        self._look_at_model(model, self.at_start)
        if optimizer is not None:
            self._look_at_optimizer(optimizer, self.at_start)

    def meet(self, optimizer: Optimizer) -> None:
        """Note the state of an optimizer that nobody named before: it may be from before."""
        self._look_at_optimizer(optimizer, self.at_start)

    def step(self, optimizer: Optimizer) -> None:
        """Note the gradients and the state of the parameters that an optimizer is to step."""
        found = NamedStorages()
        self._look_at_optimizer(optimizer, found)
        self.states |= found.states
        for address, owner in found.gradients.items():
            owners = self.gradients.setdefault(address, [])
            if owner in owners:
                owners.remove(owner)
            owners.insert(0, owner)

    def end(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Note what is there after the trace, and keep names and addresses alone."""
        self._look_at_model(model, self.at_end)
        for optimizer in optimizers:
            self._look_at_optimizer(optimizer, self.at_end)
        self._owners.clear()

    def _look_at_model(self, model: nn.Module, found: NamedStorages) -> None:
        for name, tensor in model.named_buffers():
            found.parameters.setdefault(_address(tensor), _owner(name))
        for name, parameter in model.named_parameters():
            owner = _owner(name)
            self._owners[id(parameter)] = owner
            found.parameters.setdefault(_address(parameter), owner)
            if not is_lazy(parameter):
                self.sizes.setdefault(owner or MODEL, set()).add(parameter.nbytes)
            if parameter.grad is not None:
                found.gradients[_address(parameter.grad)] = owner

    def _look_at_optimizer(self, optimizer: Optimizer, found: NamedStorages) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                owner = self._owners.get(id(parameter), "")
                if parameter.grad is not None:
                    found.gradients.setdefault(_address(parameter.grad), owner)
                for value in state_tensors(optimizer.state.get(parameter)):
                    found.states[_address(value)] = owner


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
