"""Where the autograd engine adds two gradients in place, which it never does for fake tensors.

A tensor that was used twice gets two gradients. The engine adds the second to the first in place if
it alone holds one of them ("torch/csrc/autograd/input_buffer.cpp", PyTorch); for tensor subclasses
and under a dispatch mode it always makes a third tensor, which a GPU would not allocate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ADD: Final = torch.ops.aten.add.Tensor
Holders = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GradientMerge:
    """Tells the engine's own additions, and which operand it would reuse.

    Attributes
    ----------
    sole : tuple of int
        How many hold a tensor, and its storage, that the engine alone holds, seen from a dispatch
        mode. It differs between versions of PyTorch, so it is measured: `calibrated`.
    """

    sole: Holders

    @classmethod
    def calibrated(cls) -> GradientMerge:
        """Return one that has watched an addition of two gradients that nobody else holds.

        To be called under the same fake mode as the trace.
        """
        watch = _Watch()  # type: ignore[no-untyped-call]
        with watch:
            leaf = torch.zeros(2, 2, requires_grad=True)
            twice = leaf * 2
            (twice.sigmoid() + twice.tanh()).sum().backward()  # type: ignore[no-untyped-call]
        return cls(watch.seen)

    def reused(self, args: Sequence[object]) -> torch.Tensor | None:
        """Return the operand of ``aten.add`` that the engine would add to in place.

        None if the engine did not ask, or must make a new tensor.
        """
        if not _is_in_backward() or len(args) != 2:
            return None
        left, right = args
        if not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
            return None
        if left.shape != right.shape or left.dtype != right.dtype:
            return None
        holders = [_holders(args[0]), _holders(args[1])]
        if min(count for count, _ in holders) < self.sole[0]:
            return None
        for tensor, counts in zip((left, right), holders, strict=True):
            if counts == self.sole and _is_dense(tensor):
                return tensor
        return None


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the holders of the first gradient that is added to another."""

    seen: Holders = (-1, -1)

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is _ADD and _is_in_backward():
            self.seen = _holders(args[0])
        return func(*args, **(kwargs or {}))


def _is_in_backward() -> bool:
    return not torch.is_grad_enabled() and torch._C._current_autograd_node() is not None


def _holders(value: object) -> Holders:
    """Return how many hold a tensor and its storage."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"gradients are tensors, got {type(value)}")
    storage = value.untyped_storage()
    n_holders: int = value._use_count()  # type: ignore[attr-defined]
    return n_holders, int(torch._C._storage_Use_Count(storage._cdata))


def _is_dense(tensor: torch.Tensor) -> bool:
    return bool(torch.ops.aten.is_non_overlapping_and_dense.default(tensor))
