"""A set of repetitions of a synthetic athlete, as 3-D points over time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose_analyzer.synthetic.body import Athlete, Figure
from pose_analyzer.synthetic.faults import FAULT_NAMES, Fault
from pose_analyzer.synthetic.postures import (
    BYSTANDERS,
    FAULTS_OF,
    HOLDS,
    POSTURES,
    WALK_SPEED_M_S,
    Command,
    Moment,
)
from pose_analyzer.synthetic.schedule import (
    Plan,
    Schedule,
    Tempo,
    make_hold,
    make_rest,
    make_schedule,
    minimum_jerk,
)
from pose_analyzer.types import FloatArray


@dataclass(frozen=True, slots=True)
class MotionSpec:
    """What the athlete does.

    Attributes
    ----------
    exercise : str
        One of `EXERCISES`; one of `HOLDS`, kept as long as a set of this tempo takes; or of
        `BYSTANDERS` for what is no exercise to count and takes as long: ``"stand"``, ``"walk"``
        and ``"calf_raise"``.
    reps : int
        Attempts, half ones included.
    tempo : Tempo
        Seconds of each phase.
    depth : float
        Share of the exercise's full travel, in [0.2, 1.05].
    variation : float
        How much repetitions differ, in [0, 0.3]: tempo by up to this share, depth by half of it.
    faults : tuple of Fault
        What is wrong.
    seed : int
        Of the variation, not negative. The same specification always gives the same motion.
    x_m, y_m : float
        Where on the floor.
    heading_deg : float
        Turn of the athlete about the vertical, counter-clockwise from above.
    """

    exercise: str = "squat"
    reps: int = 10
    tempo: Tempo = field(default_factory=Tempo)
    depth: float = 1.0
    variation: float = 0.03
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    x_m: float = 0.0
    y_m: float = 0.0
    heading_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.exercise not in POSTURES:
            raise ValueError(
                f"unknown exercise {self.exercise!r}; known exercises: {', '.join(POSTURES)}"
            )
        if self.reps < 0:
            raise ValueError(f"reps must not be negative, got {self.reps}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if not 0.2 <= self.depth <= 1.05:
            raise ValueError(f"depth must be in [0.2, 1.05], got {self.depth}")
        if not 0.0 <= self.variation <= 0.3:
            raise ValueError(f"variation must be in [0, 0.3], got {self.variation}")
        allowed = FAULTS_OF[self.exercise]
        for fault in self.faults:
            if fault.name not in allowed:
                raise ValueError(
                    f"{self.exercise} cannot show the fault {fault.name!r}; "
                    f"it can show: {', '.join(allowed) or 'none'}"
                )

    @property
    def plan(self) -> Plan:
        """The part of this that decides what happens when."""
        return Plan(self.reps, self.tempo, self.depth, self.variation, self.faults, self.seed)


@dataclass(frozen=True, slots=True)
class Performance:
    """A motion carried out.

    Attributes
    ----------
    schedule : Schedule
        Time, phase and repetition of each frame.
    points_m : array, shape (T, N, 3)
        World positions in metres, rows as in `body.POINT_NAMES`.
    command : Command
        The angle that the motion commanded.
    """

    schedule: Schedule
    points_m: FloatArray
    command: Command


def perform(athlete: Athlete, motion: MotionSpec, fps: float) -> Performance:
    """Return the athlete's points at every frame of a motion.

    Raises
    ------
    ValueError
        If the athlete's proportions cannot do the exercise (a limb would have to stretch).
    """
    schedule = _schedule(motion, fps)
    severity = dict(zip(FAULT_NAMES, schedule.severity.T, strict=True))
    moment = Moment(schedule.time_s, schedule.travel, severity)
    figure = Figure(athlete, schedule.time_s.shape[0])
    command = POSTURES[motion.exercise](figure, moment)
    points = figure.points
    if motion.exercise == "walk":
        points = _walked(points, schedule.time_s)
    points = _turned(points, np.array([motion.heading_deg]))
    return Performance(schedule, points + np.array([motion.x_m, motion.y_m, 0.0]), command)


def _schedule(motion: MotionSpec, fps: float) -> Schedule:
    if motion.exercise in BYSTANDERS:
        return make_rest(motion.plan, fps)
    make = make_hold if motion.exercise in HOLDS else make_schedule
    return make(motion.plan, fps)


def _turned(points: FloatArray, heading_deg: FloatArray) -> FloatArray:
    """Return points turned about the vertical through the origin."""
    angle = np.radians(heading_deg)[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=-1)


def _walked(points: FloatArray, time_s: FloatArray, way_m: float = 4.0) -> FloatArray:
    """Return a walk on the spot carried to and fro along x, turning round at the ends."""
    turn_s = 1.0
    leg_s = way_m / WALK_SPEED_M_S
    lap, within_s = np.divmod(time_s, leg_s + turn_s)
    gone = np.minimum(within_s / leg_s, 1.0) * way_m
    x = np.where(lap % 2 == 0, gone, way_m - gone)
    heading = 180.0 * (lap + minimum_jerk((within_s - leg_s) / turn_s))
    carried = _turned(points, heading)
    carried[..., 0] += x[:, None]
    return carried
