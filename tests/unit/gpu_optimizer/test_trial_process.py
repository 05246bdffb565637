from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import fake_card
import pytest
from fake_card import MIB, FakeDoor, FakeStep

from gpu_optimizer.batch_trial import StepFn
from gpu_optimizer.errors import StepFailedError
from gpu_optimizer.packed_step import packed_step
from gpu_optimizer.trial_process import ProcessTrials, TrialProcess, serve

FIXTURES = Path(fake_card.__file__).parent
SEARCH = """
import sys
from fake_card import FakeDoor, FakeStep
from gpu_optimizer.packed_step import packed_step
from gpu_optimizer.trial_process import ProcessTrials

if __name__ == "__main__":
    trials = ProcessTrials(packed_step(FakeStep()), FakeDoor(), 120.0, 3)
    try:
        trials.start()
        print("started", flush=True)
        trials.open()
        while True:
            trials.rough(1, 2**28)
    except KeyboardInterrupt:
        trials.close()
        print("stopped", file=sys.stderr)
"""


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


def test_ctrl_c_leaves_no_process_and_no_complaint_of_one(tmp_path: Path) -> None:
    program = tmp_path / "search.py"
    program.write_text(SEARCH, encoding="utf-8")
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(FIXTURES), *sys.path])},
        start_new_session=True,
        text=True,
    ) as search:
        assert search.stdout is not None
        assert search.stdout.readline() == "started\n"
        os.killpg(search.pid, signal.SIGINT)  # as a terminal does, to all of them
        # Every process has the pipe of errors, so it ends when the last of them does.
        _, told = search.communicate(timeout=60)
    assert told == "stopped\n"
