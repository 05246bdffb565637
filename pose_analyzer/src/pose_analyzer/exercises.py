"""Exercises as data: what to count, what good form is, what to say.

Each ``config/exercises/<name>.yaml`` is one `ExerciseSpec`, read by `exercise_file`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

RestEnd = Literal["high", "low"]
Counted = Literal["cycle", "lift", "hold"]
Feet = Literal["planted", "moving"]
ViewName = Literal["front", "oblique", "side"]
Criterion = Literal[
    "depth", "alignment", "symmetry", "smoothness", "range_of_motion", "tempo", "stability"
]

FILM_FROM: Final[Mapping[ViewName, str]] = MappingProxyType(
    {"front": "from the front", "oblique": "from an angle in front", "side": "from the side"}
)
"""Where a camera stands for each view, in words that follow "film"."""
ALL_ROUND: Final = (0.0, 90.0)
"""The yaws of what every view shows."""


@dataclass(frozen=True, slots=True)
class PhaseNames:
    """What the phases of `Motion.phase` are called in this exercise, for people to read.

    Attributes
    ----------
    rest, away, turn, back : str
        ``"standing"``, ``"descent"``, ``"bottom"`` and ``"ascent"`` in a squat.
    """

    rest: str
    away: str
    turn: str
    back: str

    def of(self, phase: str) -> str:
        """Return the name of a phase; ``""`` for one that is not known."""
        names = {"rest": self.rest, "away": self.away, "turn": self.turn, "back": self.back}
        return names.get(phase, "")


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """What a camera standing there can show.

    Attributes
    ----------
    name : str
        One of `ViewName`.
    min_yaw_deg, max_yaw_deg : float
        The camera yaws that are this view (0 front, 90 side).
    shows : str
        What can be judged from there.
    """

    name: ViewName
    min_yaw_deg: float
    max_yaw_deg: float
    shows: str

    @property
    def film_from(self) -> str:
        """Where to stand, in words that follow "film"."""
        return FILM_FROM[self.name]

    def overlap(self, min_yaw_deg: float, max_yaw_deg: float) -> float:
        """Return the share of this view's yaws that lie in a range, in [0, 1]."""
        common = min(self.max_yaw_deg, max_yaw_deg) - max(self.min_yaw_deg, min_yaw_deg)
        return max(common, 0.0) / (self.max_yaw_deg - self.min_yaw_deg)


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """How repetitions show: points that move against points that rest.

    Attributes
    ----------
    moving, resting : tuple of str
        Keypoint names. The signal is the vertical distance between the mean of the moving and
        the mean of the resting points that are seen, in body sizes (statures).
    rest : str
        ``"high"`` if the moving points start a repetition at their highest (squat), ``"low"`` if
        at their lowest (overhead press).
    counted : str
        ``"cycle"``: rest, far end, rest again is one repetition. ``"lift"``: reaching the far end
        is enough (a deadlift that stays at lockout). ``"hold"``: a position is kept, see
        `HoldSpec`.
    min_range : float
        Smallest travel in statures that is an attempt at all.
    full_share : float
        In (0, 1]. A repetition smaller than this share of the athlete's usual travel is partial.
    min_duration_s, max_duration_s : float
        A cycle that is shorter or longer is no repetition. A hold that is shorter is partial; of
        one that is longer the last ``max_duration_s`` are judged, which bounds memory.
    source : str
        Where the numbers come from.
    feet : str
        ``"planted"`` if they stay where they are: who steps meanwhile does another thing.
        ``"moving"`` if steps belong to the exercise (jumping jack).
    ready : tuple of float
        Lowest and highest height of the moving over the resting points, in statures, of the
        posture in which a cycle begins and a lift ends. From any other a repetition is partial.
    """

    moving: tuple[str, ...]
    resting: tuple[str, ...]
    rest: RestEnd
    counted: Counted
    min_range: float
    full_share: float
    min_duration_s: float
    max_duration_s: float
    source: str
    feet: Feet = "moving"
    ready: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class HoldSpec:
    """The position that a hold keeps, within generous limits: how good it is, is judged later.

    Attributes
    ----------
    line : tuple of str
        Three parts of the body without side, from end to end: shoulder, hip, ankle.
    max_slope_deg : float
        Most slope in the picture of the line between its ends.
    max_bend_deg : float
        Most turn of the line at its middle.
    raised, support : str
        A part that must be above another: the shoulder above the elbow, or one merely lies.
    min_raise : float
        By how much, in statures.
    max_speed : float
        Most speed of any part of the line that is still, in statures a second.
    settle_s : float
        In position for this long, a hold has begun, at the first of these moments.
    max_break_s : float
        Out of position, or unseen, for longer than this, it has ended, at the last moment before.
    min_yaw_deg : float
        From a smaller camera yaw (0 front, 90 side) the position cannot be measured.
    source : str
        Where the numbers come from.
    """

    line: tuple[str, ...]
    max_slope_deg: float
    max_bend_deg: float
    raised: str
    support: str
    min_raise: float
    max_speed: float
    settle_s: float
    max_break_s: float
    min_yaw_deg: float
    source: str


@dataclass(frozen=True, slots=True)
class JointGoal:
    """The reference angles of one joint, for both sides.

    Attributes
    ----------
    joint : str
        Name without side (``"knee"``) or a sideless angle (``"trunk_lean"``).
    rest_deg, turn_deg : float
        Angle at rest and at the far end of a good repetition.
    tolerance_deg : float
        A deviation of this size costs nothing; three times this size costs all.
    source : str
        Author and title, or "chosen by us, see reports/...".
    """

    joint: str
    rest_deg: float
    turn_deg: float
    tolerance_deg: float
    source: str


@dataclass(frozen=True, slots=True)
class CriterionSpec:
    """One part of the score.

    Attributes
    ----------
    name : str
        One of `Criterion`.
    weight : float
        Relative; the weights of the parts that could be judged are normalised to 1.
    joint : str
        The joint it reads (depth, range of motion); empty for those that read all goals.
    goal, worst : float
        The value that earns 100 and the value that earns 0, in the criterion's unit: degrees for
        depth, range and symmetry; tolerances of the goals for alignment; seconds for tempo;
        spectral arc length for smoothness; percent of stature for stability.
    min_yaw_deg, max_yaw_deg : float
        The camera yaws from which it can be judged (0 front, 90 side).
    source : str
        Where the numbers come from.
    """

    name: Criterion
    weight: float
    joint: str
    goal: float
    worst: float
    min_yaw_deg: float
    max_yaw_deg: float
    source: str


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One nameable error and what to say about it.

    Attributes
    ----------
    name : str
        ``"shallow_depth"``, ``"knee_valgus"``, ...
    measure : str
        The name of a function of `form_measures`.
    limit, severe : float
        The fault begins at ``limit`` and has severity 1 at ``severe``; the order of the two says
        which direction is bad. In the measure's unit.
    min_yaw_deg, max_yaw_deg : float
        The camera yaws from which it can be judged (0 front, 90 side).
    cue, praise : str
        What to say when it is seen, and when it was corrected.
    priority : int
        1 is the most urgent.
    source : str
        Where the numbers come from.
    """

    name: str
    measure: str
    limit: float
    severe: float
    min_yaw_deg: float
    max_yaw_deg: float
    cue: str
    praise: str
    priority: int
    source: str


@dataclass(frozen=True, slots=True)
class ExerciseSpec:
    """One exercise.

    Attributes
    ----------
    name, title : str
        ``"push_up"`` and ``"Push-up"``.
    signal : SignalSpec
        What is counted.
    phases : PhaseNames
        The parts of a repetition in the exercise's own words.
    views : tuple of ViewSpec
        From where it can be judged.
    goals : tuple of JointGoal
        The reference motion, by joint.
    criteria : tuple of CriterionSpec
        The parts of the score.
    faults : tuple of FaultSpec
        In order of priority.
    best_view : str
        What to tell a user whose camera cannot show the form: "from the side, at hip height".
    hold : HoldSpec or None
        The position, where ``signal.counted`` is ``"hold"``.
    """

    name: str
    title: str
    signal: SignalSpec
    phases: PhaseNames
    views: tuple[ViewSpec, ...]
    goals: tuple[JointGoal, ...]
    criteria: tuple[CriterionSpec, ...]
    faults: tuple[FaultSpec, ...]
    best_view: str
    hold: HoldSpec | None = None

    @property
    def is_frontal(self) -> bool:
        """Whether it moves in the frontal plane: its depth cannot be judged from the side."""
        depths = [one for one in self.criteria if one.name == "depth"]
        return bool(depths) and all(one.max_yaw_deg < 90.0 for one in depths)

    def off_plane_yaw(self, yaw_deg: float) -> float:
        """Return how far the camera stands off the worst view: 90 where the motion is in plane."""
        return 90.0 - yaw_deg if self.is_frontal else yaw_deg

    @property
    def judged(self) -> tuple[CriterionSpec | FaultSpec, ...]:
        """All that is judged: the criteria, then the faults."""
        return (*self.criteria, *self.faults)

    def view_of(self, judged: CriterionSpec | FaultSpec) -> str:
        """Return from where to film to see this, say ``"from the side"``; empty if from anywhere.

        The view that lies most in the yaws from which it can be judged; of two that do so, the one
        that is not in between.
        """
        yaws = (judged.min_yaw_deg, judged.max_yaw_deg)
        if yaws == ALL_ROUND:
            return ""
        best = max(self.views, key=lambda view: (view.overlap(*yaws), view.name != "oblique"))
        return best.film_from

    def views_of(self, judged: Iterable[CriterionSpec | FaultSpec]) -> dict[str, tuple[str, ...]]:
        """Return from where to film to see these, each view with the words for what it shows."""
        found: dict[str, dict[str, None]] = {}
        for one in judged:
            found.setdefault(self.view_of(one), {})[one.name.replace("_", " ")] = None
        return {view: tuple(names) for view, names in found.items() if view}
