"""Which module an operator belongs to, in forward and in backward."""

from __future__ import annotations

import bisect
from types import TracebackType
from typing import Self

import torch
from torch import nn
from torch.autograd.graph import Node
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.hooks import RemovableHandle


class ModuleScopes:
    """Follows which module runs, while entered.

    Autograd numbers its nodes in the order of forward. The number at which each module began is
    noted, so that a node of backward is found again in the module that made it.

    Parameters
    ----------
    model : nn.Module
        Whose modules are named; others count for the module that calls them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self._open: list[str] = []
        self._starts: list[int] = []
        self._scopes: list[str] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def current(self) -> str:
        """Return the full name of the module at work, empty outside of all."""
        if self._open:
            return self._open[-1]
        node: Node | None = torch._C._current_autograd_node()
        if node is None:
            return ""
        index = bisect.bisect_right(self._starts, node._sequence_nr()) - 1
        return self._scopes[index] if index >= 0 else ""

    def _enter(self, module: nn.Module, _: object) -> None:
        parent = self._open[-1] if self._open else ""
        self._open.append(self._names.get(id(module), parent))
        self._note()

    def _leave(self, *_: object) -> None:
        self._open.pop()
        self._note()

    def _note(self) -> None:
        self._starts.append(torch._C._autograd._get_sequence_nr())
        self._scopes.append(self._open[-1] if self._open else "")
