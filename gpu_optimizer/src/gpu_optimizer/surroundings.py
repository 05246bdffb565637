"""What a traced program is in the midst of, so that it is known where it goes back to."""

from __future__ import annotations

from torch.optim import Optimizer


class Surroundings:
    """What the program is in the midst of: calls of modules, steps of optimizers, a phase.

    Attributes
    ----------
    phase : int
        Backward, an optimizer, or other: what goes on when no module is called.
    n_steps : int
        How many steps began.
    """

    def __init__(self, phase: int) -> None:
        self.phase = phase
        self.n_steps = 0
        self._calls: list[tuple[object, str]] = []
        self._steps: list[tuple[int, int, int, str]] = []

    @property
    def is_outermost(self) -> bool:
        """Whether no module is being called."""
        return not self._calls

    def call(self, key: object, tag: str) -> bool:
        """Note that a module is called, and return whether none called it."""
        self._calls.append((key, tag))
        return len(self._calls) == 1

    def end_call(self, key: object) -> str | None:
        """Return the tag before a call, None if that never began: another hook raised before."""
        for place in range(len(self._calls) - 1, -1, -1):
            if self._calls[place][0] is key:
                tag = self._calls[place][1]
                del self._calls[place:]
                return tag
        return None

    def step(self, optimizer: Optimizer, phase: int, tag: str) -> None:
        """Note that an optimizer steps; an earlier step of it that did not end has failed."""
        self.end_step(optimizer)
        self.n_steps += 1
        self._steps.append((id(optimizer), self.phase, phase, tag))

    def end_step(self, optimizer: Optimizer) -> tuple[int, str] | None:
        """Return the phase and the tag before the step of an optimizer, None if it makes none."""
        for place in range(len(self._steps) - 1, -1, -1):
            stepper, around, phase, tag = self._steps[place]
            if stepper == id(optimizer):
                del self._steps[place:]
                self.phase = around
                return phase, tag
        return None
