"""When a synthetic athlete does what: repetitions as minimum-jerk phases on a time line.

References
----------
.. [1] T. Flash and N. Hogan, "The coordination of arm movements: an experimentally confirmed
   mathematical model", Journal of Neuroscience 5(7), 1985: the smoothest point-to-point movement
   is ``10 u^3 - 15 u^4 + 6 u^5``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pose_analyzer.synthetic.faults import FAULT_NAMES, Fault
from pose_analyzer.types import FloatArray, IntArray

PHASES: Final = ("rest", "away", "turn", "back")
"""As in `pose_analyzer.types.Motion.phase`."""


def minimum_jerk(progress: FloatArray) -> FloatArray:
    """Return the share of the way at a share of the time; both run from 0 to 1 (and are clipped).

    Velocity and acceleration are zero at both ends [1]_.

    References
    ----------
    .. [1] Flash and Hogan, "The coordination of arm movements", J. Neuroscience 5(7), 1985.
    """
    u = np.clip(progress, 0.0, 1.0)
    return np.asarray(u**3 * (10.0 - 15.0 * u + 6.0 * u**2))


@dataclass(frozen=True, slots=True)
class Tempo:
    """Seconds of each part of a repetition, before variation and faults.

    Attributes
    ----------
    away_s, turn_s, back_s, rest_s : float
        From rest to the far end, held there, back, and rest before the next repetition.
    lead_s : float
        Standing still before the first and after the last repetition.
    """

    away_s: float = 1.4
    turn_s: float = 0.3
    back_s: float = 1.2
    rest_s: float = 0.6
    lead_s: float = 1.0

    def __post_init__(self) -> None:
        if min(self.away_s, self.back_s) < 0.1:
            raise ValueError(
                f"away_s and back_s must be at least 0.1 s, got {self.away_s} and {self.back_s}"
            )
        if min(self.turn_s, self.rest_s, self.lead_s) < 0.0:
            raise ValueError("turn_s, rest_s and lead_s must not be negative")


@dataclass(frozen=True, slots=True)
class TrueRep:
    """One repetition as it was commanded.

    Attributes
    ----------
    number : int
        From 1 among full repetitions; 0 for a half one, which does not count.
    attempt : int
        From 1 among all.
    start_s, turn_s, end_s : float
        Rest left, far end reached, rest reached again.
    depth : float
        Share of the exercise's full travel.
    is_partial : bool
        True for a half repetition.
    faults : tuple of str
        Names of what is wrong with it.
    """

    number: int
    attempt: int
    start_s: float
    turn_s: float
    end_s: float
    depth: float
    is_partial: bool
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One phase: from one share of the travel to another."""

    start_s: float
    duration_s: float
    begin: float
    end: float
    phase: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The time line of a set, sampled.

    Attributes
    ----------
    time_s : array, shape (T,)
        Of each frame.
    travel : array, shape (T,)
        Share of the exercise's full travel, 0 at rest, 1 at the far end at depth 1.
    phase : int array, shape (T,)
        Index into `PHASES`.
    attempt : int array, shape (T,)
        The repetition in progress, from 1 and half ones included; 0 at rest.
    severity : array, shape (T, F)
        Of each fault of `FAULT_NAMES` in the repetition in progress; 0 at rest.
    reps : tuple of TrueRep
        In time order.
    """

    time_s: FloatArray
    travel: FloatArray
    phase: IntArray
    attempt: IntArray
    severity: FloatArray
    reps: tuple[TrueRep, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to schedule: as in `pose_analyzer.synthetic.motion.MotionSpec`."""

    n_reps: int
    tempo: Tempo
    depth: float
    variation: float
    faults: tuple[Fault, ...]
    seed: int


def make_schedule(plan: Plan, fps: float) -> Schedule:
    """Return the time line of a set at a frame rate."""
    stretches, reps = _stretches(plan)
    duration_s = stretches[-1].start_s + stretches[-1].duration_s
    # The last frame is the last whole one; 1e-9 keeps 3.0 s at 30 fps from losing one to rounding.
    time_s = np.arange(int(duration_s * fps + 1e-9) + 1) / fps
    return _sample(time_s, stretches, reps, _severities(plan))


def make_rest(plan: Plan, fps: float) -> Schedule:
    """Return a time line as long as `make_schedule`'s on which nothing is repeated."""
    full = make_schedule(plan, fps)
    none = np.zeros(full.time_s.shape[0], dtype=np.intp)
    return Schedule(
        full.time_s, np.zeros_like(full.travel), none, none, np.zeros_like(full.severity), ()
    )


def make_hold(plan: Plan, fps: float) -> Schedule:
    """Return a time line as long as `make_schedule`'s on which one position is held throughout."""
    time_s = make_schedule(plan, fps).time_s
    whole = np.ones(time_s.shape[0], dtype=np.intp)
    severity = _severities(plan)[:2].max(axis=0)
    end_s = float(time_s[-1])
    names = tuple(name for name, value in zip(FAULT_NAMES, severity, strict=True) if value > 0.0)
    rep = TrueRep(1, 1, 0.0, 0.5 * end_s, end_s, 1.0, False, names)
    table = np.tile(severity, (time_s.shape[0], 1))
    phase = PHASES.index("turn") * whole
    return Schedule(time_s, whole.astype(np.float64), phase, whole, table, (rep,))


def _severities(plan: Plan) -> FloatArray:
    """Return the severity of each fault in each attempt, shape (1 + reps, F); row 0 is rest."""
    table = np.zeros((plan.n_reps + 1, len(FAULT_NAMES)))
    for fault in plan.faults:
        column = FAULT_NAMES.index(fault.name)
        for attempt in range(1, plan.n_reps + 1):
            severity = fault.severity_at(attempt, plan.n_reps)
            table[attempt, column] = max(table[attempt, column], severity)
    return table


def _stretches(plan: Plan) -> tuple[list[_Stretch], tuple[TrueRep, ...]]:
    """Return the phases of the whole set in order, and its repetitions."""
    table = _severities(plan)
    # Always three draws a repetition: a fault then leaves the variation of the others unchanged.
    draws = np.random.default_rng(plan.seed).uniform(-1.0, 1.0, (plan.n_reps, 3))
    stretches = [_Stretch(0.0, plan.tempo.lead_s, 0.0, 0.0, "rest", 0)]
    reps: list[TrueRep] = []
    for attempt in range(1, plan.n_reps + 1):
        severity = dict(zip(FAULT_NAMES, table[attempt].tolist(), strict=True))
        draw = draws[attempt - 1]
        pace = float(np.exp(plan.variation * draw[0]))
        uneven = (0.5 + 0.3 * abs(draw[2])) * severity["uneven_tempo"]
        pace *= float(np.exp(uneven if attempt % 2 else -uneven))
        pace *= float(np.exp(-1.3 * severity["rushed_tempo"]))
        depth = plan.depth * (1.0 - 0.4 * severity["shallow_depth"])
        depth *= 1.0 + 0.5 * plan.variation * float(draw[1])
        is_partial = severity["half_rep"] > 0.0
        if is_partial:
            depth *= 0.6 - 0.3 * severity["half_rep"]
        _append_rep(stretches, plan.tempo, (pace, depth, 2.0 * severity["pause"]), attempt)
        last = attempt == plan.n_reps
        begin, turn, end = _moments(stretches, attempt)
        names = tuple(name for name in FAULT_NAMES if severity[name] > 0.0)
        number = 0 if is_partial else 1 + sum(not rep.is_partial for rep in reps)
        reps.append(TrueRep(number, attempt, begin, turn, end, depth, is_partial, names))
        rest_s = plan.tempo.lead_s if last else plan.tempo.rest_s * pace
        stretches.append(_Stretch(end, rest_s, 0.0, 0.0, "rest", 0))
    return stretches, tuple(reps)


def _append_rep(
    stretches: list[_Stretch], tempo: Tempo, shape: tuple[float, float, float], attempt: int
) -> None:
    """Append away, turn and back (in two halves around a pause) of one repetition."""
    pace, depth, pause_s = shape
    parts = [
        (tempo.away_s * pace, 0.0, depth, "away"),
        (tempo.turn_s * pace, depth, depth, "turn"),
    ]
    if pause_s > 0.0:
        half_s = 0.6 * tempo.back_s * pace
        middle = 0.5 * depth
        parts += [
            (half_s, depth, middle, "back"),
            (pause_s, middle, middle, "back"),
            (half_s, middle, 0.0, "back"),
        ]
    else:
        parts.append((tempo.back_s * pace, depth, 0.0, "back"))
    start_s = stretches[-1].start_s + stretches[-1].duration_s
    for duration_s, begin, end, phase in parts:
        stretches.append(_Stretch(start_s, duration_s, begin, end, phase, attempt))
        start_s += duration_s


def _moments(stretches: Sequence[_Stretch], attempt: int) -> tuple[float, float, float]:
    """Return start, far end (middle of the hold) and end of one repetition."""
    mine = [stretch for stretch in stretches if stretch.attempt == attempt]
    hold = next(stretch for stretch in mine if stretch.phase == "turn")
    end_s = mine[-1].start_s + mine[-1].duration_s
    return mine[0].start_s, hold.start_s + 0.5 * hold.duration_s, end_s


def _sample(
    time_s: FloatArray,
    stretches: Sequence[_Stretch],
    reps: tuple[TrueRep, ...],
    severities: FloatArray,
) -> Schedule:
    starts = np.array([stretch.start_s for stretch in stretches])
    durations = np.array([stretch.duration_s for stretch in stretches])
    ends = np.array([(stretch.begin, stretch.end) for stretch in stretches])
    row = np.searchsorted(starts, time_s, side="right") - 1
    share = (time_s - starts[row]) / np.maximum(durations[row], 1e-12)
    travel = ends[row, 0] + (ends[row, 1] - ends[row, 0]) * minimum_jerk(share)
    phase = np.array([PHASES.index(stretch.phase) for stretch in stretches], dtype=np.intp)[row]
    attempt = np.array([stretch.attempt for stretch in stretches], dtype=np.intp)[row]
    return Schedule(time_s, travel, phase, attempt, severities[attempt], reps)
