"""Exercises as data: what to count, what good form is, what to say.

Each ``config/exercises/<name>.yaml`` is one `ExerciseSpec`. The files are packaged with the
wheel; `load_exercise` also takes a path, so users can write their own.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import yaml

from pose_analyzer.errors import ExerciseError, UnknownExerciseError
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_NAMES

RestEnd = Literal["high", "low"]
Counted = Literal["cycle", "lift"]
Feet = Literal["planted", "moving"]
ChoiceT = TypeVar("ChoiceT", bound=str)
Criterion = Literal[
    "depth", "alignment", "symmetry", "smoothness", "range_of_motion", "tempo", "stability"
]


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
        is enough (a deadlift that stays at lockout).
    min_range : float
        Smallest travel in statures that is an attempt at all.
    full_share : float
        In (0, 1]. A repetition smaller than this share of the athlete's usual travel is partial.
    min_duration_s, max_duration_s : float
        A cycle that is shorter or longer is no repetition.
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
    goals : tuple of JointGoal
        The reference motion, by joint.
    criteria : tuple of CriterionSpec
        The parts of the score.
    faults : tuple of FaultSpec
        In order of priority.
    best_view : str
        What to tell a user whose camera cannot show the form: "from the side, at hip height".
    """

    name: str
    title: str
    signal: SignalSpec
    goals: tuple[JointGoal, ...]
    criteria: tuple[CriterionSpec, ...]
    faults: tuple[FaultSpec, ...]
    best_view: str

    @property
    def is_frontal(self) -> bool:
        """Whether it moves in the frontal plane: its depth cannot be judged from the side."""
        depths = [one for one in self.criteria if one.name == "depth"]
        return bool(depths) and all(one.max_yaw_deg < 90.0 for one in depths)

    def off_plane_yaw(self, yaw_deg: float) -> float:
        """Return how far the camera stands off the worst view: 90 where the motion is in plane."""
        return 90.0 - yaw_deg if self.is_frontal else yaw_deg


_SIDELESS_JOINTS: Final = tuple(
    dict.fromkeys(name.removeprefix("left_").removeprefix("right_") for name in JOINT_NAMES)
)


def exercise_names() -> tuple[str, ...]:
    """Return the names of the exercises that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def load_exercise(name_or_path: str) -> ExerciseSpec:
    """Return an exercise by name (``"squat"``) or from a YAML file of your own.

    Raises
    ------
    UnknownExerciseError
        If no exercise has that name; the message lists those that exist.
    ExerciseError
        If the file cannot be read or is not valid; the message names file, key and allowed values.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return _read(path)
    return _packaged(name_or_path.strip().lower().replace("-", "_").replace(" ", "_"))


@lru_cache(maxsize=64)
def _packaged(name: str) -> ExerciseSpec:
    known = exercise_names()
    if name not in known:
        raise UnknownExerciseError(
            f"unknown exercise {name!r}; known exercises: {', '.join(known)}"
        )
    return _read(_folder() / f"{name}.yaml")


def _folder() -> Path:
    """Return the folder of exercise files; in the source tree a link to ``config/exercises``."""
    return Path(str(importlib.resources.files("pose_analyzer"))) / "_exercises"


def _read(path: Path) -> ExerciseSpec:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise UnknownExerciseError(f"there is no exercise file {path}") from exc
    except OSError as exc:
        raise ExerciseError(f"{path}: cannot be read: {exc.strerror}") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise ExerciseError(f"{path}: not valid YAML{place}: {exc.problem}") from exc
    except (yaml.YAMLError, ValueError) as exc:
        # A date that does not exist is a bare ValueError.
        raise ExerciseError(f"{path}: not valid YAML: {str(exc).splitlines()[0]}") from exc
    return _Reader(str(path)).exercise(data)


class _Reader:
    """Turns parsed YAML into an `ExerciseSpec`; every error names the file and the key."""

    def __init__(self, file: str) -> None:
        self._file = file

    def exercise(self, data: object) -> ExerciseSpec:
        """Return the checked exercise."""
        top = self._mapping(data, "", ExerciseSpec)
        return ExerciseSpec(
            name=self._text(top["name"], "name"),
            title=self._text(top["title"], "title"),
            signal=self._signal(top["signal"], "signal"),
            goals=tuple(
                self._goal(item, f"goals[{index}]")
                for index, item in enumerate(self._list(top["goals"], "goals"))
            ),
            criteria=tuple(
                self._criterion(item, f"criteria[{index}]")
                for index, item in enumerate(self._list(top["criteria"], "criteria"))
            ),
            faults=tuple(
                self._fault(item, f"faults[{index}]")
                for index, item in enumerate(self._list(top["faults"], "faults"))
            ),
            best_view=self._text(top["best_view"], "best_view"),
        )

    def _signal(self, data: object, key: str) -> SignalSpec:
        item = self._mapping(data, key, SignalSpec)
        moving = self._names(item["moving"], f"{key}.moving", KEYPOINT_NAMES)
        resting = self._names(item["resting"], f"{key}.resting", KEYPOINT_NAMES)
        both = [name for name in resting if name in moving]
        if both:
            raise self._error(f"{key}.resting", both, "points that are not among the moving")
        shortest_s = self._number(item["min_duration_s"], f"{key}.min_duration_s", positive=True)
        longest_s = self._number(item["max_duration_s"], f"{key}.max_duration_s", positive=True)
        if not shortest_s < longest_s:
            wanted = f"above min_duration_s ({shortest_s:g})"
            raise self._error(f"{key}.max_duration_s", longest_s, wanted)
        full_share = self._number(item["full_share"], f"{key}.full_share", positive=True)
        if full_share > 1.0:
            raise self._error(f"{key}.full_share", full_share, "at most 1")
        return SignalSpec(
            moving=moving,
            resting=resting,
            rest=self._choice(item["rest"], f"{key}.rest", get_args(RestEnd)),
            counted=self._choice(item["counted"], f"{key}.counted", get_args(Counted)),
            min_range=self._number(item["min_range"], f"{key}.min_range", positive=True),
            full_share=full_share,
            min_duration_s=shortest_s,
            max_duration_s=longest_s,
            source=self._text(item["source"], f"{key}.source"),
            feet=self._choice(item["feet"], f"{key}.feet", get_args(Feet)),
            ready=self._heights(item["ready"], f"{key}.ready"),
        )

    def _heights(self, data: object, key: str) -> tuple[float, float]:
        values = self._list(data, key)
        if len(values) != 2:
            raise self._error(key, data, "the lowest and the highest height")
        low, high = (self._number(one, f"{key}[{index}]") for index, one in enumerate(values))
        if not low < high:
            raise self._error(f"{key}[1]", high, f"above the lowest ({low:g})")
        return low, high

    def _goal(self, data: object, key: str) -> JointGoal:
        item = self._mapping(data, key, JointGoal)
        return JointGoal(
            joint=self._choice(item["joint"], f"{key}.joint", _SIDELESS_JOINTS),
            rest_deg=self._number(item["rest_deg"], f"{key}.rest_deg"),
            turn_deg=self._number(item["turn_deg"], f"{key}.turn_deg"),
            tolerance_deg=self._number(
                item["tolerance_deg"], f"{key}.tolerance_deg", positive=True
            ),
            source=self._text(item["source"], f"{key}.source"),
        )

    def _criterion(self, data: object, key: str) -> CriterionSpec:
        item = self._mapping(data, key, CriterionSpec)
        name: Criterion = self._choice(item["name"], f"{key}.name", get_args(Criterion))
        joint = self._choice(item["joint"], f"{key}.joint", ("", *_SIDELESS_JOINTS))
        if not joint and name in {"depth", "range_of_motion"}:
            raise self._error(f"{key}.joint", joint, f"the joint to read for {name}")
        goal, worst = self._two_ends(item, key, "goal", "worst")
        min_yaw_deg, max_yaw_deg = self._yaws(item, key)
        return CriterionSpec(
            name=name,
            weight=self._number(item["weight"], f"{key}.weight", positive=True),
            joint=joint,
            goal=goal,
            worst=worst,
            min_yaw_deg=min_yaw_deg,
            max_yaw_deg=max_yaw_deg,
            source=self._text(item["source"], f"{key}.source"),
        )

    def _fault(self, data: object, key: str) -> FaultSpec:
        item = self._mapping(data, key, FaultSpec)
        limit, severe = self._two_ends(item, key, "limit", "severe")
        min_yaw_deg, max_yaw_deg = self._yaws(item, key)
        return FaultSpec(
            name=self._text(item["name"], f"{key}.name"),
            measure=self._text(item["measure"], f"{key}.measure"),
            limit=limit,
            severe=severe,
            min_yaw_deg=min_yaw_deg,
            max_yaw_deg=max_yaw_deg,
            cue=self._text(item["cue"], f"{key}.cue"),
            praise=self._text(item["praise"], f"{key}.praise"),
            priority=int(self._number(item["priority"], f"{key}.priority", positive=True)),
            source=self._text(item["source"], f"{key}.source"),
        )

    def _two_ends(
        self, item: dict[str, object], key: str, first: str, last: str
    ) -> tuple[float, float]:
        """Return two numbers whose order says which direction is bad, so they must differ."""
        start = self._number(item[first], f"{key}.{first}")
        end = self._number(item[last], f"{key}.{last}")
        if start == end:
            raise self._error(f"{key}.{last}", item[last], f"other than {first} ({start:g})")
        return start, end

    def _yaws(self, item: dict[str, object], key: str) -> tuple[float, float]:
        names = ("min_yaw_deg", "max_yaw_deg")
        low, high = (self._number(item[name], f"{key}.{name}") for name in names)
        for name, yaw_deg in zip(names, (low, high), strict=True):
            if not 0.0 <= yaw_deg <= 90.0:
                raise self._error(f"{key}.{name}", yaw_deg, "a yaw from 0 to 90")
        if low > high:
            raise self._error(f"{key}.max_yaw_deg", high, f"at least min_yaw_deg ({low:g})")
        return low, high

    def _mapping(self, data: object, key: str, spec: type) -> dict[str, object]:
        """Return a mapping with exactly the fields of the dataclass ``spec``."""
        where = key or "the file"
        if not isinstance(data, dict):
            raise self._error(where, data, "a mapping")
        allowed = [field.name for field in dataclasses.fields(spec)]
        unknown = sorted(str(name) for name in data if name not in allowed)
        if unknown:
            raise ExerciseError(
                f"{self._file}: unknown key {unknown[0]!r} in {where}; "
                f"allowed keys: {', '.join(allowed)}"
            )
        missing = [name for name in allowed if name not in data]
        if missing:
            raise ExerciseError(f"{self._file}: key {missing[0]!r} is missing in {where}")
        return {str(name): value for name, value in data.items()}

    def _list(self, data: object, key: str) -> list[object]:
        if not isinstance(data, list):
            raise self._error(key, data, "a list")
        return data

    def _text(self, data: object, key: str) -> str:
        if not isinstance(data, str) or not data.strip():
            raise self._error(key, data, "a text that is not empty")
        return data

    def _number(self, data: object, key: str, *, positive: bool = False) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise self._error(key, data, "a number")
        try:
            number = float(data)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._error(key, data, "a finite number")
        if positive and number <= 0.0:
            raise self._error(key, data, "a number above 0")
        return number

    def _choice(self, data: object, key: str, allowed: tuple[ChoiceT, ...]) -> ChoiceT:
        for choice in allowed:
            if data == choice:
                return choice
        raise self._error(key, data, "one of: " + ", ".join(name or '""' for name in allowed))

    def _names(self, data: object, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        names = self._list(data, key)
        if not names:
            raise self._error(key, data, "at least one name")
        return tuple(str(self._choice(name, key, allowed)) for name in names)

    def _error(self, key: str, got: object, wanted: str) -> ExerciseError:
        return ExerciseError(f"{self._file}: {key} must be {wanted}, got {got!r}")
