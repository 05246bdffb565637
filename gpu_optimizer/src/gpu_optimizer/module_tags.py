"""Tells where a program is, in words short enough to be set at every step of it.

A tag is ``"phase|module|"``. It is set by one call when a module begins and ends, when backward
enters or leaves what a module made, and around the optimizer; all tags are made beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

Put = Callable[[str], object]
PHASES: Final = ("forward", "backward", "optimizer", "evaluation", "other")
FORWARD: Final = 0
BACKWARD: Final = 1
OPTIMIZER: Final = 2
EVALUATION: Final = 3
OTHER: Final = 4
MODEL: Final = "(model)"
"""The module name of what the whole model does itself, outside of its parts."""
_SILENT: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
"""They run nothing of their own; a subclass of them might."""


class _Sink:
    """Where tags go; a graph that outlives the trace keeps this alone."""

    __slots__ = ("put",)

    def __init__(self, put: Put) -> None:
        self.put = put


class ModuleTags:
    """Puts a tag whenever the program goes elsewhere, while entered.

    Parameters
    ----------
    model : nn.Module
        Whose modules are named. It is let go when left.
    put : callable
        Takes the tag; called at every change, so it must be quick.
    on_step : callable
        Called with each optimizer before it steps.

    Notes
    -----
    Backward is followed by hooks on the nodes of autograd that modules made and began with, since
    module hooks for backward forbid changes in place of a module's output, as residual networks
    make them. ``torch.autograd.backward`` and ``grad`` are replaced while entered by functions that
    call them, since nothing else tells where backward begins and ends.
    """

    def __init__(
        self, model: nn.Module, put: Put, on_step: Callable[[Optimizer], None] = lambda _: None
    ) -> None:
        self._model: nn.Module | None = model
        self._sink = _Sink(put)
        self._on_step = on_step
        self._phase = OTHER
        self._hooked: set[int] = set()
        self._handles: list[RemovableHandle] = []
        self._backward = torch.autograd.backward
        self._grad = torch.autograd.grad

    def __enter__(self) -> Self:
        model, self._model = self._model, None
        if model is None:
            raise ValueError("module tags can be entered once")
        self._backward, self._grad = torch.autograd.backward, torch.autograd.grad
        try:
            self._hook(model)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._go(OTHER)
        return self

    def _hook(self, model: nn.Module) -> None:
        torch.autograd.backward = self._around(self._backward)  # type: ignore[assignment]
        torch.autograd.grad = self._around(self._grad)  # type: ignore[assignment]
        self._handles += [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        for module, name, parent in _speaking(model):
            self._add_hooks(module, name, parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        torch.autograd.backward, torch.autograd.grad = self._backward, self._grad
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked.clear()
        self._sink.put("")
        self._sink.put = _ignore

    def _add_hooks(self, module: nn.Module, name: str, parent: str) -> None:
        sink, hooked = self._sink, self._hooked
        own = [f"{phase}|{name}|" for phase in PHASES]
        above = [f"{phase}|{parent}|" for phase in PHASES]
        is_top = not parent

        def enter(_: nn.Module, inputs: Sequence[object]) -> None:
            # A part that is called by itself, past its model's forward, begins one too.
            if (is_top and self._phase != BACKWARD) or self._phase == OTHER:
                self._phase = FORWARD if torch.is_grad_enabled() else EVALUATION
            sink.put(own[self._phase])
            follow(inputs, above[BACKWARD])

        def leave(_: nn.Module, __: object, output: object) -> None:
            follow((output,), own[BACKWARD])
            sink.put(above[self._phase])

        def follow(values: Sequence[object], tag: str) -> None:
            node = _first_node(values)
            if node is not None:
                number = node._sequence_nr()
                if number not in hooked:
                    hooked.add(number)
                    node.register_prehook(_putter(sink, tag))

        self._handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]

    def _around(self, function: Callable[..., object]) -> Callable[..., object]:
        def tagged(*args: object, **kwargs: object) -> object:
            before = self._phase
            self._go(BACKWARD)
            try:
                return function(*args, **kwargs)
            finally:
                self._go(OTHER if before in {FORWARD, EVALUATION} else before)

        return tagged

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        self._on_step(optimizer)
        self._go(OPTIMIZER)

    def _after_step(self, *_: object) -> None:
        self._go(OTHER)

    def _go(self, phase: int) -> None:
        self._phase = phase
        self._sink.put(f"{PHASES[phase]}||")


def _ignore(_: str) -> None:
    """Take no notice of a tag after the end."""


def _putter(sink: _Sink, tag: str) -> Callable[[object], None]:
    """Return a hook of autograd that puts a tag."""

    def put(_: object) -> None:
        sink.put(tag)

    return put


def _speaking(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield the modules that may allocate, each with its name and that of the one above it."""
    names: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # It takes no hooks: what it does counts for the module above.
        above = name
        while above:
            above = above.rpartition(".")[0]
            if above in names:
                break
        parent = names.get(above, "") if name else ""
        if not name or type(module) not in _SILENT:
            # The sign between the parts of a tag cannot be in one.
            names[name] = name.replace("|", "/") or MODEL
            yield module, names[name], parent


def _first_node(values: object) -> torch.autograd.graph.Node | None:
    """Return the node of autograd that made the first tensor that has one."""
    if isinstance(values, torch.Tensor):
        return values.grad_fn
    inner: Sequence[object] = ()
    if isinstance(values, Mapping):
        inner = tuple(values.values())
    elif isinstance(values, list | tuple):
        inner = values
    for value in inner:
        node = _first_node(value)
        if node is not None:
            return node
    return None
