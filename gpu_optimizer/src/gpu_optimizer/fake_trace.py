"""An `AllocationTrace` of a step from fake tensors: shapes and lifetimes, no bytes, no GPU.

Fake tensors run the real model, the real autograd engine and the real optimizer without data. Every
storage is booked when an operator returns it and ended when its last owner drops it
(`storage_ledger`); what CUDA does otherwise is corrected from a table (`cuda_kernels`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_optimizer.cuda_autocast import cuda_rules
from gpu_optimizer.cuda_kernels import MATRIX_PRODUCTS, cuda_choices, output_bytes, temporaries
from gpu_optimizer.errors import TraceError
from gpu_optimizer.gradient_merge import GradientMerge
from gpu_optimizer.module_scopes import ModuleScopes
from gpu_optimizer.stand_ins import inputs_standing_in, standing_in
from gpu_optimizer.storage_ledger import StorageLedger
from gpu_optimizer.training_step import (
    AUTOCAST_DTYPES,
    WEIGHT_DTYPES,
    StepConfig,
    StepProgram,
    Workload,
    default_dtype,
)
from gpu_optimizer.types import AllocationTrace


@dataclass(frozen=True, slots=True)
class KernelConstants:
    """What the libraries of a machine take, see `machines.Machine`."""

    cublas_workspace_bytes: int = 0
    attention: str = "flash"
    n_processors: int = 1


@dataclass(frozen=True, slots=True)
class FakeTrace:
    """A trace and where its steps begin.

    Attributes
    ----------
    trace : AllocationTrace
        Of all steps; its phases are ``setup``, ``forward``, ``backward`` and ``optimizer``.
    step_starts : tuple of int
        Index of the first event of each step.
    is_convolving : bool
        Whether a step has a convolution.
    """

    trace: AllocationTrace
    step_starts: tuple[int, ...]
    is_convolving: bool


def trace_step(
    workload: Workload,
    config: StepConfig,
    constants: KernelConstants | None = None,
    n_steps: int = 2,
) -> FakeTrace:
    """Return what the allocator of a GPU would be asked for in the steps.

    Parameters
    ----------
    workload : Workload
        Only shapes matter; nothing it makes holds data.
    config : StepConfig
        What a step does.
    constants : KernelConstants, optional
        Library workspaces; none by default.
    n_steps : int
        At least 1. Optimizer state first exists after one step, so the steady state needs two.

    Raises
    ------
    ValueError
        If `n_steps` is less than 1.
    TraceError
        If the step asks for the data of a tensor, for an operator that has no fake kernel, for a
        tensor that was made elsewhere, or for a device.
    TypeError
        If `Workload.model_fn` makes no module, or `Workload.loss_fn` returns no tensor.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    ledger = StorageLedger()
    with ExitStack() as stack:
        stack.enter_context(default_dtype(WEIGHT_DTYPES[config.precision]))
        stack.enter_context(FakeTensorMode(allow_fallback_kernels=False))
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(cuda_choices())
        dtype = AUTOCAST_DTYPES.get(config.precision)
        if dtype is not None:
            stack.enter_context(cuda_rules())
        stack.enter_context(_told_in_a_sentence())
        model = standing_in(workload.model_fn())
        batch = inputs_standing_in(workload.inputs_fn())
        model.train(config.mode == "train")
        _book_setup(ledger, model, batch)
        program = StepProgram(
            model, batch, workload.loss_fn, config, _autocast(dtype), workload.optimizer_fn
        )
        merge = GradientMerge.calibrated()
        scopes = stack.enter_context(ModuleScopes(model))
        ledger.module_of = scopes.current
        stack.enter_context(_gradients_named(ledger, model))
        booking = _Bookkeeper(ledger, constants or KernelConstants(), merge)
        stack.enter_context(booking)
        step_starts = []
        for _ in range(n_steps):
            step_starts.append(ledger.n_events)
            program.run(lambda phase: _enter(ledger, phase))
            _book_optimizer(ledger, program.optimizer)
        trace = ledger.close("cuda:0")
    return FakeTrace(trace, tuple(step_starts), booking.is_convolving)


_ADD: Final = torch.ops.aten.add.Tensor
_UNTRACEABLE: Final = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
_ELSEWHERE: Final = (
    "the step moves tensors to a device, or makes them there: leave the device out for a forecast, "
    "everything is then made in one place"
)
_SIGNS: Final[Mapping[str, str]] = {
    "convert all Tensors to FakeTensors": "the step uses a tensor that neither model_fn nor "
    "inputs_fn made: make it in inputs_fn, or within the step",
    "FakeTensor Device Propagation": _ELSEWHERE,
    "hasPrimaryContext": _ELSEWHERE,
    "UninitializedParameter": "a lazy module cannot be made of fake tensors: give its sizes, "
    "nn.Linear for nn.LazyLinear",
}
_CONVOLUTION: Final = torch.ops.aten.convolution.default
_DEVICE: Final = torch.ops.prim.device.default


@contextmanager
def _told_in_a_sentence() -> Iterator[None]:
    """Say in words of ours what fake tensors cannot do; what else a step raises passes."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    # It logs the traceback of every error that it raises besides.
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    except _UNTRACEABLE as exc:
        raise TraceError(
            f"the step cannot be traced without data, as it reads the values of tensors or their "
            f"number ({exc}): leave that out, or trace it on a real device"
        ) from exc
    except (AssertionError, RuntimeError) as exc:
        for sign, why in _SIGNS.items():
            if sign in str(exc):
                raise TraceError(why) from exc
        raise
    finally:
        log.disabled = was_disabled


def _enter(ledger: StorageLedger, phase: str) -> None:
    ledger.phase = phase


@contextmanager
def _gradients_named(ledger: StorageLedger, model: nn.Module) -> Iterator[None]:
    """Call what a parameter keeps as its gradient a gradient."""

    def name(parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            ledger.see(parameter.grad, "gradient")

    handles = [
        parameter.register_post_accumulate_grad_hook(name)  # type: ignore[no-untyped-call]
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _autocast(dtype: torch.dtype | None) -> Callable[[], AbstractContextManager[object]]:
    return nullcontext if dtype is None else lambda: torch.autocast("cpu", dtype=dtype)


def _book_setup(ledger: StorageLedger, model: nn.Module, batch: object) -> None:
    """Book what is there before the first step."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        ledger.module_of = functools.partial(str, name.rpartition(".")[0])
        ledger.see(tensor, "parameter")
    ledger.module_of = str
    for tensor in _tensors(batch):
        ledger.see(tensor, "input")
    ledger.begin()


def _book_optimizer(ledger: StorageLedger, optimizer: torch.optim.Optimizer | None) -> None:
    if optimizer is None:
        return
    for tensor in _tensors(list(optimizer.state.values())):
        if tensor.dim() > 0:
            ledger.see(tensor, "optimizer state")


def _tensors(value: object) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


class _Bookkeeper(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator of a step and books what it makes."""

    def __init__(
        self, ledger: StorageLedger, constants: KernelConstants, merge: GradientMerge
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = ledger
        self._constants = constants
        self._merge = merge
        self._threads_with_cublas: set[bool] = set()
        self.is_convolving = False

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is _ADD and (kept := self._merge.reused(args)) is not None:
            return kept
        if func is _DEVICE and isinstance(tensor := args[0], FakeTensor):
            # A third of all calls, which the fake mode answers in the same way, only later.
            return tensor.fake_device
        output = func(*args, **(kwargs or {}))
        self._book(func, args, output)
        return output

    def _book(self, func: object, args: Sequence[object], output: object) -> None:
        ledger = self._ledger
        if func in MATRIX_PRODUCTS:
            self._take_cublas()
        self.is_convolving = self.is_convolving or func is _CONVOLUTION
        is_optimizer = ledger.phase == "optimizer"
        constants = self._constants
        taken = temporaries(func, args, constants.attention, constants.n_processors)
        held = [ledger.hold(n_bytes) for n_bytes in taken.held]
        for index, tensor in enumerate(pytree.tree_leaves(output)):
            # AdamW counts its steps on the host.
            is_booked = isinstance(tensor, FakeTensor) and tensor.layout == torch.strided
            if is_booked and not (is_optimizer and tensor.dim() == 0):
                ledger.see(tensor, n_bytes=output_bytes(func, index, tensor))
            ledger.pulse(taken.pulses[index] if index < len(taken.pulses) else 0)
        for block in held:
            ledger.release(block)

    def _take_cublas(self) -> None:
        is_backward = self._ledger.phase == "backward"
        if is_backward not in self._threads_with_cublas:
            self._threads_with_cublas.add(is_backward)
            self._ledger.keep(self._constants.cublas_workspace_bytes)
