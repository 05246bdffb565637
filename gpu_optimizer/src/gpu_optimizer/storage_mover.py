"""Moving tensors to other memory while everybody goes on using them.

Resizing a storage to the size that it has makes PyTorch allocate anew, copy and let go of the old
memory, within the same storage object (``at::native::resize_bytes_cuda`` and ``resize_bytes_cpu``).
Whatever shares the storage moves with it: tied weights, views of one buffer, gradients and the
optimizer's state. No tensor is replaced, so identities, hooks and keys stay.

What cannot move with it is an address that was taken out of PyTorch. A storage or a tensor that is
used by more than is known may be such a case: it stays where it is and is counted with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from gpu_optimizer.allocator_config import MIN_BLOCK_BYTES, SMALL_BYTES

ELSEWHERE: Final = "on another device"
SUBCLASS: Final = "a tensor subclass, such as a shard, whose memory others manage"
FOREIGN: Final = "memory of NumPy, of another process or of a file, which PyTorch cannot move"
REFERENCED: Final = "shared with a tensor that is neither the model's nor the optimizer's"
HELD: Final = "held by autograd, DistributedDataParallel or another library"
UNKNOWN: Final = "this build of PyTorch does not tell who else uses it"
GRAPH: Final = "a CUDA graph or another memory pool may hold its address"
NO_ROOM: Final = "no room for a copy"
KEPT: Final = "this build of PyTorch does not allocate anew for the same size"

_PLAIN_TYPES: Final = (torch.Tensor, nn.Parameter)


@dataclass(frozen=True, slots=True)
class Stayed:
    """Storages that were not moved for one reason.

    Attributes
    ----------
    reason : str
        One of the texts of this module.
    n_storages, n_bytes : int
        How many, and how much.
    """

    reason: str
    n_storages: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """What a compaction moved, and what it did not.

    Attributes
    ----------
    n_storages, n_bytes : int
        Moved.
    stayed : tuple of Stayed
        The rest by reason, the most bytes first.
    """

    n_storages: int
    n_bytes: int
    stayed: tuple[Stayed, ...]


def long_lived_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, *, with_gradients: bool = False
) -> list[torch.Tensor]:
    """Return parameters, buffers, gradients if asked for, and optimizer state, each tensor once."""
    found: dict[int, torch.Tensor] = {}
    parameters: list[torch.Tensor] = list(model.parameters())
    if optimizer is not None:
        parameters += _tensors_in([group["params"] for group in optimizer.param_groups])
    for tensor in (*parameters, *model.buffers()):
        found.setdefault(id(tensor), tensor)
    if with_gradients:
        for parameter in parameters:
            if parameter.grad is not None:
                found.setdefault(id(parameter.grad), parameter.grad)
    if optimizer is not None:
        for tensor in _tensors_in([optimizer.param_groups, optimizer.state]):
            found.setdefault(id(tensor), tensor)
    return list(found.values())


def move_storages(
    tensors: Iterable[torch.Tensor],
    device: torch.device,
    reserve: Callable[[int], None],
    refusal: str = "",
) -> Move:
    """Move the storages of tensors to memory that is allocated now, the largest first.

    Parameters
    ----------
    tensors : iterable of Tensor
        All tensors that are known to share these storages, each once. What anything else refers to
        stays: what that is cannot be told, and it may hold an address.
    device : torch.device
        Storages elsewhere stay.
    reserve : callable
        Called with the bytes of the blocks above 1 MiB before they are moved, so that one segment
        can hold them without gaps. Where it runs out of memory they are moved without.
    refusal : str
        Why none may be moved; they are only counted then.

    Notes
    -----
    The caller sees to it that no work on the device uses these storages meanwhile. No value is
    changed, no version counter, and no random generator.
    """
    stayed = _Counts()
    movable: list[torch.UntypedStorage] = []
    for storage, reason in _examined(tensors, device):
        if reason or refusal:
            stayed.add(reason or refusal, 0 if storage is None else storage.nbytes())
        elif storage is not None:
            movable.append(storage)
    movable.sort(key=lambda storage: -storage.nbytes())
    with suppress(torch.OutOfMemoryError):
        reserve(sum(size for size in map(_block_bytes, movable) if size > SMALL_BYTES))
    n_moved = moved_bytes = 0
    for storage in movable:
        reason = _move(storage)
        if reason:
            stayed.add(reason, storage.nbytes())
        else:
            n_moved += 1
            moved_bytes += storage.nbytes()
    return Move(n_moved, moved_bytes, stayed.result())


def _move(storage: torch.UntypedStorage) -> str:
    """Move a storage; return why it is where it was, empty if it is not."""
    address = storage.data_ptr()
    try:
        storage.resize_(storage.nbytes())
    except torch.OutOfMemoryError:
        return NO_ROOM
    return KEPT if storage.data_ptr() == address else ""


class _Counts:
    """Counts what stays, by reason."""

    def __init__(self) -> None:
        self._n: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def add(self, reason: str, n_bytes: int) -> None:
        self._n[reason] += 1
        self._bytes[reason] += n_bytes

    def result(self) -> tuple[Stayed, ...]:
        rows = (Stayed(reason, n, self._bytes[reason]) for reason, n in self._n.items())
        return tuple(sorted(rows, key=lambda row: -row.n_bytes))


def _block_bytes(storage: torch.UntypedStorage) -> int:
    return -(-storage.nbytes() // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES


def _examined(
    tensors: Iterable[torch.Tensor], device: torch.device
) -> Iterator[tuple[torch.UntypedStorage | None, str]]:
    """Yield each storage that holds anything once, with the reason why it must stay."""
    known = list(tensors)
    owners = _owners(known)
    storages: dict[int, torch.UntypedStorage] = {}
    n_users: Counter[int] = Counter()
    held: set[int] = set()
    for tensor in known:
        if type(tensor) not in _PLAIN_TYPES:
            yield None, SUBCLASS
            continue
        if tensor.device.type == "meta" or tensor.layout != torch.strided:
            continue
        storage = tensor.untyped_storage()
        key = storage._cdata
        if storage.nbytes():
            storages.setdefault(key, storage)
            n_users[key] += 1
            if _is_held(tensor, owners[id(tensor)]):
                held.add(key)
    for key, storage in storages.items():
        yield storage, _why_not(storage, device, n_users[key]) or (HELD if key in held else "")


def _owners(known: Sequence[torch.Tensor]) -> Counter[int]:
    """Return how many of the tensors own each other one: as its gradient, or as its base."""
    owners: Counter[int] = Counter()
    for tensor in known:
        if tensor.is_leaf and tensor.grad is not None:
            owners[id(tensor.grad)] += 1
        if tensor._is_view():
            owners[id(tensor._base)] += 1
    return owners


def _is_held(tensor: torch.Tensor, n_owners: int) -> bool:
    """Return whether more has a tensor than Python, its gradient's accumulator and its owners."""
    accumulator = None
    if tensor.requires_grad and tensor.is_leaf:
        # Made here if it does not exist, so that it can be counted.
        accumulator = torch.autograd.graph.get_gradient_edge(tensor)
    n_expected = 1 + (accumulator is not None) + n_owners
    return bool(tensor._use_count() > n_expected)  # type: ignore[attr-defined]


def _why_not(storage: torch.UntypedStorage, device: torch.device, n_users: int) -> str:
    """Return why a storage with so many known users must stay, empty if it need not."""
    if storage.device != device:
        return ELSEWHERE
    if not storage.resizable() or (device.type == "cpu" and storage.is_shared()):
        return FOREIGN
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None:
        return UNKNOWN
    # The storage object of Python is one user more.
    return REFERENCED if count(storage._cdata) > n_users + 1 else ""


def _tensors_in(value: object) -> list[torch.Tensor]:
    """Return all tensors in nested mappings and sequences."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _tensors_in(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors_in(item)]
    return []
