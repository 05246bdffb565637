"""A step function on its way into a process of trials."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

from gpu_optimizer.batch_trial import StepFn


def packed_step(step_fn: StepFn | str) -> bytes:
    """Return a step function as another process can read it.

    Raises
    ------
    ValueError
        If another process cannot import it; the message says what to do.
    """
    if isinstance(step_fn, str):
        module, separator, name = step_fn.partition(":")
        if not (module and separator and name):
            raise ValueError(f"a step is named 'module:function', got {step_fn!r}")
        return pickle.dumps(step_fn)
    name = getattr(step_fn, "__qualname__", type(step_fn).__qualname__)
    try:
        packed = pickle.dumps(step_fn)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        raise ValueError(_not_importable(name)) from exc
    owner = step_fn if hasattr(step_fn, "__qualname__") else type(step_fn)
    if owner.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        raise ValueError(_not_importable(name))
    return packed


def _not_importable(name: str) -> str:
    return (
        f"{name} cannot be imported by a new process, as a lambda, a local function or one of a "
        "notebook cannot: move it to the top of a module, name it 'module:function', or search in "
        "this process with isolation='none'"
    )


def loaded_step(packed: bytes) -> StepFn:
    """Return the step function that `packed_step` packed, and let it prepare itself.

    Raises
    ------
    Exception
        Whatever importing it raises.
    """
    step_fn = pickle.loads(packed)  # noqa: S301 - packed by the process that started this one
    if isinstance(step_fn, str):
        module, _, name = step_fn.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        step_fn = found
    if not callable(step_fn):
        raise TypeError(f"a step is a function of a batch, got {step_fn!r}")
    prepare = getattr(step_fn, "prepare", None)
    if prepare is not None:
        prepare()
    return step_fn  # type: ignore[no-any-return]
