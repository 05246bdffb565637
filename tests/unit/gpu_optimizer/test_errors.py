"""errors: one tree, and a sentence that says by how much it does not fit."""

from __future__ import annotations

import inspect
import pickle

from gpu_optimizer import errors
from gpu_optimizer.errors import GpuOptimizerError, OutOfMemoryError


def test_everything_that_is_raised_has_one_base() -> None:
    raised = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    assert len(raised) >= 7
    assert all(issubclass(one, GpuOptimizerError) for one in raised)


def test_out_of_memory_says_how_much_is_missing() -> None:
    error = OutOfMemoryError("a batch of 64", 10 * 2**30, 8 * 2**30)
    assert str(error) == ("a batch of 64 needs 10.00 GiB, 2.00 GiB more than the limit of 8.00 GiB")


def test_out_of_memory_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(OutOfMemoryError("x", 2, 1)))  # noqa: S301 - made just here
    assert (error.what, error.needed_bytes, error.limit_bytes) == ("x", 2, 1)
