"""Exercise files: read strictly, so that an error names the file, the key and what is allowed.

The files of ``config/exercises`` are packaged with the wheel; `load_exercise` also takes a path,
so users can write their own.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar, get_args

from pose_analyzer.errors import ExerciseError, UnknownExerciseError
from pose_analyzer.exercises import (
    ALL_ROUND,
    Counted,
    Criterion,
    CriterionSpec,
    ExerciseSpec,
    FaultSpec,
    Feet,
    HoldSpec,
    JointGoal,
    PhaseNames,
    RestEnd,
    SignalSpec,
    ViewName,
    ViewSpec,
)
from pose_analyzer.form_criteria import measure_of
from pose_analyzer.form_measures import MEASURES
from pose_analyzer.skeleton import JOINT_NAMES, KEYPOINT_NAMES
from pose_analyzer.strict_yaml import read_yaml

ChoiceT = TypeVar("ChoiceT", bound=str)

SIDED_PARTS: Final = tuple(
    name.removeprefix("left_") for name in KEYPOINT_NAMES if name.startswith("left_")
)
"""The parts of the body that there are on both sides."""
_SIDELESS_JOINTS: Final = tuple(
    dict.fromkeys(name.removeprefix("left_").removeprefix("right_") for name in JOINT_NAMES)
)
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MOST: Final = 1e6
"""More than any angle, time, body proportion, weight or priority that means something."""


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
        return _Reader(str(path)).exercise(read_yaml(path))
    return _packaged(name_or_path.strip().lower().replace("-", "_").replace(" ", "_"))


@lru_cache(maxsize=64)
def _packaged(name: str) -> ExerciseSpec:
    known = exercise_names()
    if name not in known:
        raise UnknownExerciseError(
            f"unknown exercise {name!r}; known exercises: {', '.join(known)}"
        )
    path = _folder() / f"{name}.yaml"
    return _Reader(str(path)).exercise(read_yaml(path))


def _folder() -> Path:
    """Return the folder of exercise files; in the source tree a link to ``config/exercises``."""
    return Path(str(importlib.resources.files("pose_analyzer"))) / "_exercises"


class _Reader:
    """Turns parsed YAML into an `ExerciseSpec`; every error names the file and the key."""

    def __init__(self, file: str) -> None:
        self._file = file

    def exercise(self, data: object) -> ExerciseSpec:
        """Return the checked exercise."""
        top = self._mapping(data, "", ExerciseSpec)
        signal = self._signal(top["signal"], "signal")
        spec = ExerciseSpec(
            name=self._folder_name(top["name"], "name"),
            title=self._text(top["title"], "title"),
            signal=signal,
            phases=self._phases(top["phases"], "phases"),
            views=self._views(top["views"], "views"),
            goals=tuple(
                self._goal(item, f"goals[{index}]")
                for index, item in enumerate(self._list(top["goals"], "goals"))
            ),
            criteria=self._criteria(top["criteria"], "criteria"),
            faults=tuple(
                self._fault(item, f"faults[{index}]")
                for index, item in enumerate(self._list(top["faults"], "faults"))
            ),
            best_view=self._text(top["best_view"], "best_view"),
            hold=self._hold(top.get("hold"), "hold", is_hold=signal.counted == "hold"),
        )
        self._require_views(spec)
        return spec

    def _phases(self, data: object, key: str) -> PhaseNames:
        item = self._mapping(data, key, PhaseNames)
        found: dict[str, str] = {}
        for name, text in item.items():
            phase = self._text(text, f"{key}.{name}")
            if phase in found.values():
                raise self._error(f"{key}.{name}", phase, "a name that no other phase has")
            found[name] = phase
        return PhaseNames(**found)

    def _views(self, data: object, key: str) -> tuple[ViewSpec, ...]:
        views: list[ViewSpec] = []
        for index, one in enumerate(self._list(data, key)):
            place = f"{key}[{index}]"
            item = self._mapping(one, place, ViewSpec)
            name: ViewName = self._choice(item["name"], f"{place}.name", get_args(ViewName))
            if name in {view.name for view in views}:
                raise self._error(f"{place}.name", name, "a view that is not named before")
            low, high = self._yaws(item, place)
            if low == high:
                raise self._error(f"{place}.max_yaw_deg", high, f"above min_yaw_deg ({low:g})")
            views.append(ViewSpec(name, low, high, self._text(item["shows"], f"{place}.shows")))
        if not views:
            raise self._error(key, data, "at least one view")
        return tuple(views)

    def _require_views(self, spec: ExerciseSpec) -> None:
        """Raise if something could be judged from no view that the file names."""
        for index, one in enumerate(spec.judged):
            yaws = (one.min_yaw_deg, one.max_yaw_deg)
            if yaws == ALL_ROUND or any(view.overlap(*yaws) for view in spec.views):
                continue
            n_criteria = len(spec.criteria)
            place = f"criteria[{index}]" if index < n_criteria else f"faults[{index - n_criteria}]"
            got = f"{yaws[0]:g} to {yaws[1]:g}"
            raise self._error(f"{place}.min_yaw_deg", got, "yaws that one of the views has")

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

    def _hold(self, data: object, key: str, *, is_hold: bool) -> HoldSpec | None:
        if not is_hold:
            if data is not None:
                raise self._error(key, data, "left out unless signal.counted is hold")
            return None
        item = self._mapping(data, key, HoldSpec)
        line = self._names(item["line"], f"{key}.line", SIDED_PARTS)
        if len(set(line)) != 3:
            raise self._error(f"{key}.line", list(line), "three different parts, from end to end")
        raised, support = (
            self._choice(item[name], f"{key}.{name}", SIDED_PARTS) for name in ("raised", "support")
        )
        min_yaw_deg = self._number(item["min_yaw_deg"], f"{key}.min_yaw_deg")
        if not 0.0 <= min_yaw_deg < 90.0:
            raise self._error(f"{key}.min_yaw_deg", min_yaw_deg, "a yaw from 0 to below 90")
        limits = {
            name: self._number(item[name], f"{key}.{name}", positive=True)
            for name in (
                "max_slope_deg",
                "max_bend_deg",
                "min_raise",
                "max_speed",
                "settle_s",
                "max_break_s",
            )
        }
        return HoldSpec(
            line=line,
            raised=raised,
            support=support,
            min_yaw_deg=min_yaw_deg,
            source=self._text(item["source"], f"{key}.source"),
            **limits,
        )

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

    def _criteria(self, data: object, key: str) -> tuple[CriterionSpec, ...]:
        """Return the criteria, each named once: the views of a fault are entries of one name."""
        found: list[CriterionSpec] = []
        for index, one in enumerate(self._list(data, key)):
            criterion = self._criterion(one, f"{key}[{index}]")
            if criterion.name in {other.name for other in found}:
                wanted = "a criterion that is not named before"
                raise self._error(f"{key}[{index}].name", criterion.name, wanted)
            found.append(criterion)
        return tuple(found)

    def _criterion(self, data: object, key: str) -> CriterionSpec:
        item = self._mapping(data, key, CriterionSpec)
        name: Criterion = self._choice(item["name"], f"{key}.name", get_args(Criterion))
        joint = self._choice(item["joint"], f"{key}.joint", ("", *_SIDELESS_JOINTS))
        if not joint and name in {"depth", "range_of_motion"}:
            raise self._error(f"{key}.joint", joint, f"the joint to read for {name}")
        goal, worst = self._two_ends(item, key, "goal", "worst")
        min_yaw_deg, max_yaw_deg = self._yaws(item, key)
        criterion = CriterionSpec(
            name=name,
            weight=self._number(item["weight"], f"{key}.weight", positive=True),
            joint=joint,
            goal=goal,
            worst=worst,
            min_yaw_deg=min_yaw_deg,
            max_yaw_deg=max_yaw_deg,
            source=self._text(item["source"], f"{key}.source"),
        )
        measure = measure_of(criterion)
        if measure and measure not in MEASURES:
            raise self._error(f"{key}.joint", joint, f"a joint that {name} can read")
        return criterion

    def _fault(self, data: object, key: str) -> FaultSpec:
        item = self._mapping(data, key, FaultSpec)
        limit, severe = self._two_ends(item, key, "limit", "severe")
        min_yaw_deg, max_yaw_deg = self._yaws(item, key)
        return FaultSpec(
            name=self._text(item["name"], f"{key}.name"),
            measure=self._choice(item["measure"], f"{key}.measure", tuple(sorted(MEASURES))),
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
        """Return a mapping with the fields of the dataclass ``spec`` and no others."""
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
        optional = [field.name for field in dataclasses.fields(spec) if field.default is None]
        missing = [name for name in allowed if name not in data and name not in optional]
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

    def _folder_name(self, data: object, key: str) -> str:
        """Return a text that can name the folder of the exercise's references."""
        text = self._text(data, key)
        if not _FOLDER_NAME.fullmatch(text):
            raise self._error(
                key, data, "letters, digits, _ and -, beginning with a letter or digit"
            )
        return text

    def _number(self, data: object, key: str, *, positive: bool = False) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise self._error(key, data, "a number")
        try:
            number = float(data)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._error(key, data, "a finite number")
        if abs(number) > _MOST:
            raise self._error(key, data, f"a number from -{_MOST:g} to {_MOST:g}")
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
        chosen = tuple(str(self._choice(name, key, allowed)) for name in names)
        if len(set(chosen)) < len(chosen):
            raise self._error(key, list(chosen), "names that are there once")
        return chosen

    def _error(self, key: str, got: object, wanted: str) -> ExerciseError:
        return ExerciseError(f"{self._file}: {key} must be {wanted}, got {got!r}")
