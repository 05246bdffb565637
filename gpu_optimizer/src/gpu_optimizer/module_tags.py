"""Tells where a program is, in words short enough to be set at every step of it.

A tag is ``"phase|module|"``. It is set by one call when a module begins and ends, when backward
enters or leaves what a module made, and around the optimizer. Its end says `AGAIN` where backward
computes again what forward did not keep, and ``#`` with a number that changes where an optimizer
stepped within backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from threading import get_ident
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

from gpu_optimizer.recording import MODEL
from gpu_optimizer.surroundings import Surroundings

Put = Callable[[str], object]
PHASES: Final = ("forward", "backward", "optimizer", "evaluation", "other")
FORWARD: Final = 0
BACKWARD: Final = 1
OPTIMIZER: Final = 2
EVALUATION: Final = 3
OTHER: Final = 4
AGAIN: Final = "again"
_SILENT: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)
"""They run nothing of their own; a subclass of them might."""


class _Sink:
    """Where tags go, and the last of them; a graph that outlives the trace keeps this alone.

    Attributes
    ----------
    mark : str
        Ends each tag of backward after an optimizer stepped in it, else empty.
    """

    __slots__ = ("mark", "put", "tag")

    def __init__(self, put: Put) -> None:
        self.put = put
        self.tag = ""
        self.mark = ""

    def go(self, tag: str) -> None:
        """Put a tag."""
        self.tag = tag
        self.put(tag + self.mark)


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

    What was compiled is one part: the hooks in it do nothing, so that the compiler sees none of
    them.
    """

    def __init__(
        self, model: nn.Module, put: Put, on_step: Callable[[Optimizer], None] = lambda _: None
    ) -> None:
        self._model: nn.Module | None = model
        self._sink = _Sink(put)
        self._on_step = on_step
        self._phase = OTHER
        self._around = Surroundings(OTHER)
        self._hooked: set[tuple[int, int]] = set()
        self._handles: list[RemovableHandle] = []
        self._compiled: list[tuple[nn.Module, Callable[..., object]]] = []
        self._backward = torch.autograd.backward
        self._grad = torch.autograd.grad

    def __enter__(self) -> Self:
        model, self._model = self._model, None
        if model is None:
            raise ValueError("module tags can be entered once")
        self._backward, self._grad = torch.autograd.backward, torch.autograd.grad
        try:
            self._go(OTHER)
            self._hook(model)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _hook(self, model: nn.Module) -> None:
        torch.autograd.backward = self._in_backward(self._backward)  # type: ignore[assignment]
        torch.autograd.grad = self._in_backward(self._grad)  # type: ignore[assignment]
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
        for module, call in self._compiled:
            module._compiled_call_impl = call
        self._handles.clear()
        self._compiled.clear()
        self._hooked.clear()
        put, self._sink.put = self._sink.put, _ignore
        put("")

    def _add_hooks(self, module: nn.Module, name: str, parent: str) -> None:
        own = [f"{phase}|{name}|" for phase in PHASES]
        own_again = own[BACKWARD] + AGAIN
        above = f"{PHASES[BACKWARD]}|{parent}|"

        def enter(_: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
            if torch.compiler.is_compiling():
                return
            if self._around.call(own, self._sink.tag) and self._around.phase != BACKWARD:
                self._phase = FORWARD if torch.is_grad_enabled() else EVALUATION
            self._sink.go(own_again if self._phase == BACKWARD else own[self._phase])
            self._follow((args, kwargs), above)

        def leave(_: nn.Module, __: object, output: object) -> None:
            if torch.compiler.is_compiling():
                return
            self._follow(output, own[BACKWARD])
            before = self._around.end_call(own)
            if before is not None:
                is_last = self._around.is_outermost and self._phase != BACKWARD
                self._sink.go(f"{PHASES[self._phase]}||" if is_last else before)

        compiled = module._compiled_call_impl
        if compiled is None:
            self._handles += [
                module.register_forward_pre_hook(enter, with_kwargs=True),
                module.register_forward_hook(leave, always_call=True),
            ]
            return

        def call(*args: object, **kwargs: object) -> object:
            output = None
            enter(module, args, kwargs)
            try:
                output = compiled(*args, **kwargs)
            finally:
                leave(module, args, output)
            return output

        self._compiled.append((module, compiled))
        module._compiled_call_impl = call

    def _follow(self, values: object, tag: str) -> None:
        """Have a tag put when backward comes to what made some values."""
        node = _first_node(values)
        if node is not None:
            # Each thread counts for itself, and one of autograd's own may compute again.
            number = get_ident(), node._sequence_nr()
            if number not in self._hooked:
                self._hooked.add(number)
                node.register_prehook(_putter(self._sink, tag))

    def _in_backward(self, function: Callable[..., object]) -> Callable[..., object]:
        def tagged(*args: object, **kwargs: object) -> object:
            before = self._phase, self._sink.tag
            outside = self._around.phase
            self._around.phase = BACKWARD
            self._go(BACKWARD)
            try:
                return function(*args, **kwargs)
            finally:
                self._around.phase = outside
                if outside != BACKWARD:
                    self._sink.mark = ""
                self._go_back(*before)

        return tagged

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        self._on_step(optimizer)
        self._around.step(optimizer, self._phase, self._sink.tag)
        self._around.phase = OPTIMIZER
        self._go(OPTIMIZER)

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        before = self._around.end_step(optimizer)
        if before is None:
            return
        if self._around.phase == BACKWARD:
            self._sink.mark = f"#{self._around.n_steps}"
        self._go_back(*before)

    def _go_back(self, phase: int, tag: str) -> None:
        """Go where the program was before backward or a step, if it is in the midst of it."""
        if self._around.phase == BACKWARD or not self._around.is_outermost:
            self._phase = phase
            self._sink.go(tag)
        else:
            self._go(self._around.phase)

    def _go(self, phase: int) -> None:
        self._phase = phase
        self._sink.go(f"{PHASES[phase]}||")


def _ignore(_: str) -> None:
    """Take no notice of a tag after the end."""


def _putter(sink: _Sink, tag: str) -> Callable[[object], None]:
    """Return a hook of autograd that puts a tag."""

    def put(_: object) -> None:
        sink.go(tag)

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
    elif is_dataclass(values):
        inner = [getattr(values, field.name) for field in fields(values)]
    for value in inner:
        node = _first_node(value)
        if node is not None:
            return node
    return None
