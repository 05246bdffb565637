"""On a real card the finder is exact, leaves nothing behind, and tells other errors apart."""

from __future__ import annotations

import gc
import multiprocessing

import fake_card
import pytest
import torch
from gpu_steps import square_step

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import SearchConfig
from gpu_optimizer.device import nvml_used_bytes
from gpu_optimizer.errors import NoBatchFitsError, StepFailedError
from gpu_optimizer.model_step import ModelStep
from gpu_optimizer.training_step import StepConfig

MIB = 2**20
HERE = SearchConfig(isolation="none", context_bytes=0)


def held_bytes() -> int:
    """Return what this process holds of the card whatever is returned."""
    gc.collect()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_reserved())


def test_a_model_is_proven_and_its_memory_is_back() -> None:
    step = ModelStep("torchvision:squeezenet1_1", step=StepConfig("train", "adamw"))
    before = nvml_used_bytes()
    result = BatchFinder(step, "2GiB").find()
    ran = {trial.batch: trial.ran for trial in result.trials if trial.is_fresh}
    assert result.is_proven
    assert ran[result.n_max]
    assert not ran[result.n_max + 1]
    assert 0 < result.n_safe <= result.n_max
    assert 50 * MIB < result.context_bytes < 2048 * MIB
    assert multiprocessing.active_children() == []
    after = nvml_used_bytes()
    if before is not None and after is not None:
        assert abs(after - before) < 64 * MIB


def test_a_step_whose_memory_is_known_is_found_in_this_process() -> None:
    held = held_bytes()
    # What an earlier test left of its segments serves this one too.
    free = held - torch.cuda.memory_allocated()
    result = BatchFinder(square_step, held + 512 * MIB, HERE).find()
    assert 8 <= result.n_max <= 8 + -(-free // (60 * MIB))
    assert torch.cuda.memory_reserved() < held + 64 * MIB


def test_what_does_not_fit_at_1_is_an_error() -> None:
    with pytest.raises(NoBatchFitsError, match="not even a batch of 1"):
        BatchFinder(square_step, held_bytes() + 32 * MIB, HERE).find()


def test_any_other_error_is_shown_as_it_is() -> None:
    with pytest.raises(StepFailedError, match="the labels do not match"):
        BatchFinder(fake_card.broken_step, held_bytes() + 512 * MIB, HERE).find()


def test_a_budget_larger_than_the_card_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="the budget must be at most"):
        BatchFinder(square_step, "9000GiB", HERE).find()
