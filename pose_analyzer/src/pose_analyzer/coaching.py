"""Which cue to give, and when to say it.

A cue is worth little if it comes for every wobble. A fault is spoken of when it shows in two of
the last three repetitions, or once if it is severe; never twice within the cool-down; never when
the measurement is unsure. When a fault that was spoken of is gone, that is praised once.
Time comes only from ``time_s``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pose_analyzer.exercises import ExerciseSpec, FaultSpec
from pose_analyzer.types import Cue, Fault, RepAnalysis

PARTIAL_FAULT: Final = "half_rep"
"""The fault of an exercise file that a repetition cut short stands for."""


@dataclass(frozen=True, slots=True)
class CoachConfig:
    """When to speak; all chosen by us, see reports/form_scoring.md.

    Attributes
    ----------
    window : int
        How many of the latest repetitions are looked at.
    needed : int
        In how many of them a fault must show, the latest included.
    severe : float
        A fault of this severity is spoken of at its first sight.
    min_confidence : float
        A fault that is measured with less is ignored.
    min_seen : float
        A repetition of which less was seen is ignored.
    quiet_s : float
        Least time between two cues of any kind.
    repeat_s : float
        Least time between two cues for the same fault.
    repeat_reps : int
        Least number of repetitions between two cues for the same fault.
    clean_reps : int
        Repetitions in a row without a fault before its correction is praised.
    """

    window: int = 3
    needed: int = 2
    severe: float = 0.8
    min_confidence: float = 0.4
    min_seen: float = 0.5
    quiet_s: float = 3.0
    repeat_s: float = 10.0
    repeat_reps: int = 3
    clean_reps: int = 2


@dataclass(frozen=True, slots=True)
class _Spoken:
    """When the cue for a fault was last given."""

    time_s: float
    n_reps: int


class Coach:
    """Turns the faults of finished repetitions into few short cues.

    Parameters
    ----------
    spec : ExerciseSpec
        Its faults hold cues, praise and priorities.
    config : CoachConfig, optional
        When to speak.
    """

    def __init__(self, spec: ExerciseSpec, config: CoachConfig | None = None) -> None:
        self._config = config or CoachConfig()
        self._specs: dict[str, list[FaultSpec]] = {}
        for fault in spec.faults:
            # One fault may have several entries, each for its own camera views.
            self._specs.setdefault(fault.name, []).append(fault)
        self.reset()

    def reset(self) -> None:
        """Forget the set, as a new object."""
        self._recent: deque[dict[str, Fault]] = deque(maxlen=self._config.window)
        self._spoken: dict[str, _Spoken] = {}
        self._clean: dict[str, int] = {}
        self._n_reps = 0
        self._last_s = -math.inf

    def update(self, time_s: float, finished_reps: Sequence[RepAnalysis]) -> Cue | None:
        """Return what to say now, or None.

        Parameters
        ----------
        time_s : float
            Now, on the clock of the stream.
        finished_reps : sequence of RepAnalysis
            The repetitions that finished since the last call, mostly none.
        """
        noted = [self._note(one) for one in finished_reps if one.seen >= self._config.min_seen]
        if not any(noted) or time_s - self._last_s < self._config.quiet_s:
            return None
        cue = self._correction(time_s) or self._praise(time_s)
        if cue is not None:
            self._last_s = time_s
        return cue

    def _note(self, one: RepAnalysis) -> bool:
        """Remember the faults of a repetition; True, as there is now something to speak of."""
        self._n_reps += 1
        sure = {
            fault.name: fault
            for fault in self._own_faults(one)
            if fault.name in self._specs and fault.confidence >= self._config.min_confidence
        }
        self._recent.append(sure)
        for name in self._spoken:
            if name in sure:
                self._clean[name] = 0
            elif any(_could_show(spec, one) for spec in self._specs[name]):
                self._clean[name] = self._clean.get(name, 0) + 1
        return True

    def _own_faults(self, one: RepAnalysis) -> tuple[Fault, ...]:
        """Return the faults of a repetition; being cut short is one, where the view shows it."""
        if not one.rep.is_partial:
            return one.faults
        others = tuple(fault for fault in one.faults if fault.name != PARTIAL_FAULT)
        if not any(_is_in_view(spec, one) for spec in self._specs.get(PARTIAL_FAULT, ())):
            return others
        return (*others, Fault(PARTIAL_FAULT, 1.0, one.seen, "turned back before the far end"))

    def _correction(self, time_s: float) -> Cue | None:
        """Return the most urgent cue that is due for a fault of the latest repetition."""
        due = [
            fault
            for name, fault in self._recent[-1].items()
            if self._is_due(fault) and self._may_repeat(name, time_s)
        ]
        if not due:
            return None
        worst = min(due, key=lambda fault: (self._specs[fault.name][0].priority, -fault.severity))
        spec = self._specs[worst.name][0]
        self._spoken[worst.name] = _Spoken(time_s, self._n_reps)
        self._clean[worst.name] = 0
        return Cue(time_s, worst.name, spec.cue, spec.priority)

    def _is_due(self, fault: Fault) -> bool:
        shown = sum(fault.name in faults for faults in self._recent)
        return shown >= self._config.needed or fault.severity >= self._config.severe

    def _may_repeat(self, name: str, time_s: float) -> bool:
        spoken = self._spoken.get(name)
        if spoken is None:
            return True
        return (
            time_s - spoken.time_s >= self._config.repeat_s
            and self._n_reps - spoken.n_reps >= self._config.repeat_reps
        )

    def _praise(self, time_s: float) -> Cue | None:
        """Return praise for the most urgent fault that was spoken of and is gone."""
        corrected = [
            self._specs[name][0]
            for name, count in self._clean.items()
            if count >= self._config.clean_reps
        ]
        if not corrected:
            return None
        spec = min(corrected, key=lambda fault: fault.priority)
        del self._spoken[spec.name], self._clean[spec.name]
        return Cue(time_s, "praise", spec.praise, spec.priority)


def _could_show(spec: FaultSpec, one: RepAnalysis) -> bool:
    """Tell whether the repetition would have shown the fault: full, and filmed from where it is."""
    if one.rep.is_partial or math.isnan(one.score.total):
        return False
    return _is_in_view(spec, one)


def _is_in_view(spec: FaultSpec, one: RepAnalysis) -> bool:
    """Tell whether the repetition was filmed from where the fault can be seen."""
    if spec.min_yaw_deg <= 0.0 and spec.max_yaw_deg >= 90.0:
        return True
    return spec.min_yaw_deg <= one.yaw_deg <= spec.max_yaw_deg
