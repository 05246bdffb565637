"""Trials in processes of their own: one that is used again, and fresh ones, started ahead.

A process that imports PyTorch takes seconds to start. It does not touch the card before its first
trial, so that several may wait while one works.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from gpu_optimizer.batch_trial import Failure, TrialOutcome, TrialRequest, run_trial
from gpu_optimizer.device import Card, Door
from gpu_optimizer.errors import DeviceError, StepFailedError
from gpu_optimizer.packed_step import loaded_step

_CLOSE_SECONDS: Final = 2.0
_N_AHEAD: Final = 2
# More than this part of the limit left over by a trial spoils those after it; chosen by us.
_MAX_LEFT: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a process tells: its card, the outcome of a trial, or why it cannot go on."""

    card: Card | None = None
    outcome: TrialOutcome | None = None
    failure: Failure | None = None
    device_error: str = ""


def _work(pipe: Connection, packed: bytes, door: Door) -> None:
    """Run a process of trials."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    serve(pipe, packed, door)


def serve(pipe: Connection, packed: bytes, door: Door) -> None:
    """Answer requests for trials until the pipe ends."""
    try:
        door.prepare()
        step_fn = loaded_step(packed)
    except Exception as exc:  # noqa: BLE001 - whatever an import raises is told to the user
        pipe.send(_Answer(failure=Failure.of(exc)))
        return
    try:
        pipe.recv()  # the card is opened only when it is this process's turn
        pipe.send(_Answer(card=door.open()))
        while True:
            outcome = run_trial(step_fn, pipe.recv(), door, time.perf_counter)
            pipe.send(_Answer(outcome=outcome))
    except EOFError:
        return
    except DeviceError as exc:
        pipe.send(_Answer(device_error=str(exc)))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait, and for ever in a process started now: who started it ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class TrialProcess:
    """One process of trials.

    Parameters
    ----------
    packed : bytes
        Of `packed_step`.
    door : Door
        Sent to it.
    timeout_s : float
        How long it may take to start and to make a trial.
    """

    def __init__(self, packed: bytes, door: Door, timeout_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._timeout_s = timeout_s
        # No daemon, which could not start the processes of a DataLoader; `close` ends it.
        self._process = context.Process(target=_work, args=(theirs, packed, door), daemon=False)
        with _interrupts_held():
            self._process.start()
        theirs.close()
        self._card: Card | None = None
        self._is_fresh = True

    def open(self) -> Card:
        """Let it make its context on the card, and return the card.

        Raises
        ------
        StepFailedError
            If the step cannot be imported, or its process has ended.
        DeviceError
            If there is no usable card.
        """
        if self._card is None:
            self._card = self._asked("open", 1).card
        assert self._card is not None  # noqa: S101 - the first answer of `serve`
        return self._card

    def run(self, batch: int, limit_bytes: int, n_steps: int) -> TrialOutcome:
        """Return the outcome of a trial.

        Raises
        ------
        StepFailedError
            If the step cannot be imported, fails for another reason than memory, takes too long,
            or takes its process with it.
        DeviceError
            If there is no usable card.
        """
        self.open()
        request = TrialRequest(batch, limit_bytes, n_steps, self._is_fresh)
        outcome = self._asked(request, batch).outcome
        assert outcome is not None  # noqa: S101 - the further answers of `serve`
        self._is_fresh = False
        return outcome

    def _asked(self, request: TrialRequest | str, batch: int) -> _Answer:
        # What has ended cannot be asked; what it said, or how it ended, is read all the same.
        with contextlib.suppress(OSError):
            self._pipe.send(request)
        return self._answer(batch)

    def _answer(self, batch: int) -> _Answer:
        try:
            if not self._pipe.poll(self._timeout_s):
                self.close()
                what = f"nothing came for {self._timeout_s:g} s, and its process was ended"
                raise StepFailedError(batch, "timeout", what, "")
            answer: _Answer = self._pipe.recv()
        except (EOFError, OSError) as exc:
            self._process.join(_CLOSE_SECONDS)
            raise StepFailedError(batch, "lost process", self._end(), "") from exc
        failure = answer.failure or (answer.outcome.failure if answer.outcome else None)
        if answer.device_error:
            raise DeviceError(answer.device_error)
        if failure is not None and not failure.is_out_of_memory:
            raise StepFailedError(batch, failure.error_type, failure.message, failure.trace)
        return answer

    def _end(self) -> str:
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            return f"it was ended by {name}, as a system does that has no host memory left"
        return (
            f"it ended with code {code}, as one does that starts processes while it is imported: "
            "call find() below `if __name__ == '__main__':`"
        )

    def stop(self) -> None:
        """Let the process end, and return at once."""
        self._pipe.close()
        self._process.terminate()

    def close(self) -> None:
        """End the process; its memory is back when this returns."""
        self.stop()
        self._process.join(_CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_CLOSE_SECONDS)


class ProcessTrials:
    """Trials of one step function: rough ones in one process, proofs in a fresh one each.

    Parameters
    ----------
    packed, door, timeout_s
        As for `TrialProcess`.
    n_steps : int
        Of each trial.
    """

    def __init__(self, packed: bytes, door: Door, timeout_s: float, n_steps: int) -> None:
        self._packed = packed
        self._door = door
        self._timeout_s = timeout_s
        self._n_steps = n_steps
        self._scout: TrialProcess | None = None
        self._waiting: deque[TrialProcess] = deque()

    def start(self) -> None:
        """Start a process for the first trials, and return at once."""
        if not self._waiting:
            self._waiting.append(self._started())

    def open(self) -> Card:
        """Return the card, and start the processes of later trials ahead."""
        self._scout = self._next() if self._scout is None else self._scout
        card = self._scout.open()
        while len(self._waiting) < _N_AHEAD:
            self._waiting.append(self._started())
        return card

    def rough(self, batch: int, limit_bytes: int) -> TrialOutcome:
        """Return the outcome of a trial in a process that may have made others before."""
        self._scout = self._next() if self._scout is None else self._scout
        outcome = self._scout.run(batch, limit_bytes, self._n_steps)
        if outcome.left_bytes > _MAX_LEFT * limit_bytes:
            self._close_scout()
        return outcome

    def proof(self, batch: int, limit_bytes: int) -> TrialOutcome:
        """Return the outcome of a trial in a process that has made none, alone on the card."""
        self._close_scout()
        process = self._next()
        try:
            return process.run(batch, limit_bytes, self._n_steps)
        finally:
            process.close()

    def close(self) -> None:
        """End all processes."""
        # All before any is waited for: a second Ctrl-C then leaves none that waits for a request.
        for process in (*self._waiting, *([self._scout] if self._scout else [])):
            process.stop()
        self._close_scout()
        while self._waiting:
            self._waiting.popleft().close()

    def _started(self) -> TrialProcess:
        return TrialProcess(self._packed, self._door, self._timeout_s)

    def _next(self) -> TrialProcess:
        return self._waiting.popleft() if self._waiting else self._started()

    def _close_scout(self) -> None:
        if self._scout is not None:
            self._scout.close()
            self._scout = None
