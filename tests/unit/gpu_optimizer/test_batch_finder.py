from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import fake_card
import pytest
import torch
from fake_card import MIB, CurveStep, FakeDoor, FakeStep, allocated
from hypothesis import given, settings, strategies as st

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import BatchSearchResult, SearchConfig
from gpu_optimizer.batch_trial import BatchProgram, StepFn, TrialOutcome
from gpu_optimizer.errors import DeviceError, NoBatchFitsError, OutOfMemoryError, StepFailedError

HERE = SearchConfig(isolation="none")
SEGMENT = 2 * MIB


def find(step_fn: StepFn, budget: int | str | None = 512 * MIB) -> BatchSearchResult:
    return BatchFinder(step_fn, budget, HERE, door=FakeDoor()).find()


@given(
    fixed=st.integers(0, 200 * MIB),
    item=st.integers(1, 300 * MIB),
    stride=st.integers(1, 9),
    bend=st.integers(0, 2 * MIB),
)
@settings(deadline=None)
def test_the_largest_batch_is_exact_on_bent_and_stepped_curves(
    fixed: int, item: int, stride: int, bend: int
) -> None:
    def needed(batch: int) -> int:
        return fixed + item * -(-batch // stride) + bend * batch * batch

    limit = (512 - 24) * MIB
    if needed(1) > limit:
        with pytest.raises(NoBatchFitsError):
            find(CurveStep(needed))
        return
    result = find(CurveStep(needed))
    assert result.n_max == 2**16 or needed(result.n_max + 1) > limit
    assert needed(result.n_max) <= limit
    assert needed(max(result.n_safe, 1)) <= 0.95 * limit or result.n_safe == 0


@given(bumps=st.lists(st.integers(0, 60), min_size=64, max_size=64))
@settings(deadline=None)
def test_where_memory_falls_again_an_edge_is_found(bumps: list[int]) -> None:
    def needed(batch: int) -> int:
        return (10 * batch + bumps[batch % 64]) * MIB

    result = find(CurveStep(needed))
    tried = {trial.batch: trial.ran for trial in result.trials}
    assert tried[result.n_max]
    assert not tried.get(result.n_max + 1, needed(result.n_max + 1) <= result.limit_bytes)


def test_the_budget_holds_the_context_too() -> None:
    result = find(FakeStep(fixed_bytes=0, item_bytes=2 * MIB), 124 * MIB)
    assert (result.context_bytes, result.limit_bytes) == (24 * MIB, 100 * MIB)
    assert (result.n_max, result.limiting_term) == (50, "items")
    assert result.device_bytes == 124 * MIB
    assert not result.is_proven


def test_without_a_budget_everything_that_is_free_may_be_used() -> None:
    door = FakeDoor(free_bytes=276 * MIB)
    result = BatchFinder(FakeStep(), None, HERE, door=door).find()
    assert result.budget_bytes == 300 * MIB
    assert result.n_max == 17


def test_an_evaluation_that_needs_more_than_the_step_counts() -> None:
    assert find(FakeStep(evaluation_bytes=30 * MIB)).n_max == 12


def test_a_step_that_returns_nothing_is_called_for_each_step() -> None:
    assert find(fake_card.plain_step).n_max == 48


def test_what_is_there_without_any_item_is_named_where_it_limits() -> None:
    result = find(FakeStep(fixed_bytes=460 * MIB))
    assert result.limiting_term == "fixed"
    assert "460.00 MiB whatever the batch" in result.why


def test_memory_that_does_not_grow_ends_at_the_largest_allowed_batch() -> None:
    config = SearchConfig(isolation="none", max_batch=100)
    result = BatchFinder(FakeStep(item_bytes=0), 512 * MIB, config, door=FakeDoor()).find()
    assert (result.n_max, result.limiting_term) == (100, "max_batch")


def test_memory_that_appears_in_the_second_step_counts() -> None:
    def step_fn(batch: int) -> Callable[[], None]:
        calls: list[int] = []

        def step() -> None:
            calls.append(batch)
            with allocated(batch * (10 if len(calls) == 1 else 20) * MIB):
                pass

        return step

    assert find(step_fn).n_max == 24


def test_every_trial_is_told() -> None:
    told: list[TrialOutcome] = []
    finder = BatchFinder(FakeStep(), "512MiB", HERE, door=FakeDoor(), on_trial=told.append)
    assert finder.find().trials == tuple(told)


def test_a_batch_of_1_that_does_not_fit_is_an_error_and_nothing_is_left() -> None:
    with pytest.raises(NoBatchFitsError, match=r"not even a batch of 1 runs.* 488\.00 MiB"):
        find(FakeStep(fixed_bytes=600 * MIB))
    assert FakeDoor().use().allocated_bytes == 0


def test_any_other_error_of_the_step_is_shown_as_it_is() -> None:
    with pytest.raises(StepFailedError) as caught:
        find(fake_card.broken_step)
    error = caught.value
    assert (error.batch, error.error_type) == (4, "builtins.ValueError")
    assert "the labels do not match" in str(error)
    assert "fake_card.py" in error.trace


def test_a_convolution_without_an_engine_is_out_of_memory_only_where_an_allocation_failed() -> None:
    assert find(fake_card.convolving_step).n_max == 48
    with pytest.raises(StepFailedError, match="GET was unable to find an engine"):
        find(fake_card.unsupported_step)


@pytest.mark.parametrize("budget", [0, -5, "0", "lots"])
def test_a_budget_that_is_nonsense_is_a_value_error(budget: int | str) -> None:
    with pytest.raises(ValueError, match=r"budget must be more than 0|a size is a number"):
        BatchFinder(FakeStep(), budget)


def test_a_budget_larger_than_the_card_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"at most 1\.00 GiB, the memory of made up, got 8\.00"):
        find(FakeStep(), "8GiB")


def test_a_budget_below_the_context_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemoryError, match="the CUDA context alone needs"):
        find(FakeStep(), 20 * MIB)


def test_a_card_that_others_use_is_an_error() -> None:
    finder = BatchFinder(FakeStep(), 512 * MIB, HERE, door=FakeDoor(free_bytes=100 * MIB))
    with pytest.raises(DeviceError, match=r"only 100\.00 MiB of made up are free"):
        finder.find()


def test_without_a_card_no_process_is_started() -> None:
    finder = BatchFinder(FakeStep(), door=FakeDoor(has_card=False))
    with pytest.raises(DeviceError, match="no CUDA device is here"):
        finder.find()


def test_a_step_that_is_no_step_is_an_error() -> None:
    with pytest.raises(StepFailedError, match="a step function returns a BatchProgram"):
        find(cast("StepFn", lambda batch: batch))


def test_a_step_that_cannot_be_imported_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"lambda.*isolation='none'"):
        BatchFinder(lambda _: None)
    with pytest.raises(ValueError, match="'module:function', got 'nonsense'"):
        BatchFinder("nonsense")
    with pytest.raises(ValueError, match="takes a function, not its name"):
        BatchFinder("module:step", config=HERE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_steps": 1},
        {"max_batch": 0},
        {"margin": 1.0},
        {"timeout_s": 0.0},
        {"isolation": "thread"},
        {"context_bytes": -1},
    ],
)
def test_a_setting_out_of_range_is_a_value_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SearchConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_fresh_processes_prove_the_edge(tmp_path: Path) -> None:
    step = FakeStep(folder=str(tmp_path))
    result = BatchFinder(step, 512 * MIB, door=FakeDoor()).find()
    assert result.n_max == 38
    assert result.is_proven
    proofs = [trial for trial in result.trials if trial.is_fresh][-2:]
    assert {(trial.batch, trial.ran) for trial in proofs} == {(38, True), (39, False)}
    used = [path.read_text().split() for path in tmp_path.iterdir()]
    assert sorted(batches for batches in used if len(batches) == 1) == [["38"], ["39"]]
    assert result.trials[-1].failure is not None
    assert result.trials[-1].failure.error_type == "torch.OutOfMemoryError"


def test_a_program_without_an_evaluation_has_no_time_of_one() -> None:
    result = find(lambda batch: BatchProgram(lambda: fake_card.plain_step(batch)))
    assert all(trial.evaluate_seconds != trial.evaluate_seconds for trial in result.trials)


def test_a_tensor_of_a_step_that_failed_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[bool] = []

    class Held:
        def __del__(self) -> None:
            gone.append(True)

    seen_at_release: list[int] = []
    monkeypatch.setattr(FakeDoor, "release", lambda _: seen_at_release.append(len(gone)))

    def step_fn(batch: int) -> Callable[[], None]:
        def step() -> None:
            held = Held()
            raise torch.OutOfMemoryError(f"batch {batch} with {held}")

        return step

    with pytest.raises(NoBatchFitsError):
        find(step_fn)
    assert seen_at_release[0] == 1
