"""Which storages live: allocations and frees of tensors, in order, without touching their bytes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final, Literal

import torch

from gpu_optimizer.types import AllocationEvent, AllocationTrace

Category = Literal[
    "parameter", "gradient", "optimizer state", "activation", "temporary", "workspace", "input"
]
FRESH: Final = ""


class StorageLedger:
    """Books every storage once, when it is first seen, and its end when the last owner drops it.

    Views share the storage of their base and tensors changed in place keep theirs, so neither is
    booked again. A storage that autograd saved lives until autograd lets go of it: the weak
    reference is to the storage, not to a tensor.

    Attributes
    ----------
    phase : str
        What new storages are tagged with.
    module_of : callable
        Returns the name of the module that a storage made now belongs to.
    """

    def __init__(self) -> None:
        self.phase = "setup"
        self.module_of: Callable[[], str] = str
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._blocks: dict[int, int] = {}
        self._owners: list[tuple[str, str]] = []
        self._sizes: list[int] = []
        self._categories: list[str] = []
        self._events: list[tuple[bool, int, int]] = []
        self._ended: dict[int, str] = {}
        self._n_initial = 0

    @property
    def n_events(self) -> int:
        """How many events were booked so far."""
        return len(self._events)

    def see(self, tensor: torch.Tensor, category: str = FRESH, n_bytes: int | None = None) -> bool:
        """Book the storage of a tensor, and return whether it is new.

        A category given for a storage that is known already replaces the one that it had. Its
        bytes are those of the storage unless others are given. A sparse tensor has none of its own.
        """
        if tensor.layout != torch.strided:
            return False
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._blocks.get(key)
        if known is not None:
            if category:
                self._categories[known] = category
            return False
        if storage.nbytes() == 0:
            return False
        block = self._alloc(storage.nbytes() if n_bytes is None else n_bytes, category)
        self._blocks[key] = block
        self._references[key] = weakref.ref(storage, lambda _: self._free(key))
        return True

    def pulse(self, n_bytes: int) -> None:
        """Book a workspace that an operator takes and gives back."""
        if n_bytes > 0:
            self.release(self.hold(n_bytes))

    def hold(self, n_bytes: int) -> int:
        """Book a workspace that an operator takes; return its number for `release`."""
        return self._alloc(n_bytes, "workspace")

    def release(self, block: int) -> None:
        """Book that an operator gives a workspace back."""
        self._events.append((False, block, self._sizes[block]))

    def keep(self, n_bytes: int) -> None:
        """Book a workspace that a library keeps."""
        if n_bytes > 0:
            self._alloc(n_bytes, "workspace")

    def begin(self) -> None:
        """Say that all booked so far was there before the trace."""
        self._n_initial = len(self._events)

    def close(self, device: str) -> AllocationTrace:
        """Return the trace; what dies afterwards is not in it."""
        self._references.clear()
        categories = [
            category or ("temporary" if self._ended.get(block) == self._owners[block][0] else "")
            for block, category in enumerate(self._categories)
        ]
        tags = [
            f"{phase}|{module}|{category or 'activation'}"
            for (phase, module), category in zip(self._owners, categories, strict=True)
        ]
        events = tuple(
            AllocationEvent("alloc" if is_alloc else "free", block, n_bytes, tag=tags[block])
            for is_alloc, block, n_bytes in self._events
        )
        return AllocationTrace(events, device=device, source="fake", n_initial=self._n_initial)

    def _alloc(self, n_bytes: int, category: str) -> int:
        block = len(self._owners)
        self._owners.append((self.phase, self.module_of()))
        self._sizes.append(n_bytes)
        self._categories.append(category)
        self._events.append((True, block, n_bytes))
        return block

    def _free(self, key: int) -> None:
        block = self._blocks.pop(key)
        del self._references[key]
        self._ended[block] = self.phase
        self._events.append((False, block, self._sizes[block]))
