from __future__ import annotations

import multiprocessing

import fake_card
import pytest
from fake_card import MIB, FakeDoor, FakeStep

from gpu_optimizer.batch_trial import StepFn
from gpu_optimizer.errors import StepFailedError
from gpu_optimizer.trial_process import (
    ProcessTrials,
    TrialProcess,
    loaded_step,
    packed_step,
    serve,
)


def test_a_step_by_name_is_imported() -> None:
    assert loaded_step(packed_step("fake_card:plain_step")) is fake_card.plain_step


@pytest.mark.parametrize(
    ("name", "error"),
    [("fake_card:nothing", AttributeError), ("fake_card:not_a_step", TypeError)],
)
def test_a_name_without_a_step_is_told(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        loaded_step(packed_step(name))


@pytest.mark.parametrize(
    ("step_fn", "door", "said"),
    [
        ("no_such_module:step", FakeDoor(), "ModuleNotFoundError"),
        (FakeStep(), FakeDoor(has_card=False), "no CUDA device is here"),
    ],
)
def test_a_process_that_cannot_begin_says_why(
    step_fn: StepFn | str, door: FakeDoor, said: str
) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send("open")
    serve(theirs, packed_step(step_fn), door)
    assert said in str(ours.recv())


def test_a_process_that_ends_by_itself_is_told() -> None:
    process = TrialProcess(packed_step(fake_card.ending_step), FakeDoor(), 120.0)
    with pytest.raises(StepFailedError, match="it ended with code 3"):
        process.run(1, 100 * MIB, 3)
    process.close()


def test_a_process_that_is_too_slow_is_ended() -> None:
    process = TrialProcess(packed_step(FakeStep()), FakeDoor(), timeout_s=0.001)
    with pytest.raises(StepFailedError, match="nothing came for"):
        process.open()
    assert multiprocessing.active_children() == []


def test_closing_ends_those_that_wait_too() -> None:
    trials = ProcessTrials(packed_step(FakeStep()), FakeDoor(), 120.0, 3)
    trials.start()
    assert trials.open().total_bytes == 1024 * MIB
    assert len(multiprocessing.active_children()) == 3
    trials.close()
    assert multiprocessing.active_children() == []
