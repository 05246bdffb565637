"""Exercise files: those that ship are sound, and every error names file, key and way out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pose_analyzer.errors import ExerciseError, UnknownExerciseError
from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.exercises import ExerciseSpec
from pose_analyzer.form_measures import MEASURES
from pose_analyzer.form_scorer import FormScorer

SHIPPED = (
    "biceps_curl",
    "deadlift",
    "jumping_jack",
    "lunge",
    "overhead_press",
    "plank",
    "push_up",
    "squat",
)
Write = Callable[[str, object], str]

CRITERION: dict[str, object] = {
    "name": "tempo",
    "weight": 1,
    "joint": "",
    "goal": 1.0,
    "worst": 0.2,
    "min_yaw_deg": 0,
    "max_yaw_deg": 90,
    "source": "s",
}
GOOD: dict[str, object] = {
    "name": "shrug",
    "title": "Shrug",
    "best_view": "from the front",
    "signal": {
        "moving": ["left_shoulder", "right_shoulder"],
        "resting": ["left_hip"],
        "rest": "low",
        "counted": "cycle",
        "min_range": 0.02,
        "full_share": 0.5,
        "min_duration_s": 0.3,
        "max_duration_s": 6,
        "source": "a test",
        "feet": "planted",
        "ready": [-0.1, 0.4],
    },
    "phases": {"rest": "low", "away": "lift", "turn": "high", "back": "lowering"},
    "views": [
        {"name": "front", "min_yaw_deg": 0, "max_yaw_deg": 40, "shows": "both sides"},
        {"name": "side", "min_yaw_deg": 40, "max_yaw_deg": 90, "shows": "the height"},
    ],
    "goals": [
        {"joint": "elbow", "rest_deg": 170, "turn_deg": 170, "tolerance_deg": 5, "source": "s"}
    ],
    "criteria": [CRITERION],
    "faults": [
        {
            "name": "pause",
            "measure": "pause_s",
            "limit": 0.5,
            "severe": 2,
            "min_yaw_deg": 0,
            "max_yaw_deg": 90,
            "cue": "Go on.",
            "praise": "Good.",
            "priority": 1,
            "source": "s",
        }
    ],
}


def changed(path: str, value: object) -> object:
    """Return a copy of `GOOD` with the value at ``"signal.rest"`` or ``"goals.0.joint"``."""
    data = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return data


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, data: object) -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return str(path)

    return to_file


def test_the_exercises_that_ship_are_known() -> None:
    assert exercise_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_exercise_can_be_scored_and_says_where_its_numbers_are_from(name: str) -> None:
    spec = load_exercise(name)
    FormScorer(spec)
    assert spec.name == name
    assert spec.goals
    judged = {"alignment", "stability"} if spec.hold else {"smoothness", "depth"}
    assert judged <= {one.name for one in spec.criteria}
    sources = [spec.signal.source, *(one.source for one in spec.goals)]
    sources += [one.source for one in spec.criteria]
    sources += [one.source for one in spec.faults]
    assert min(map(len, sources)) > 10


@pytest.mark.parametrize("name", SHIPPED)
def test_limits_of_a_shipped_exercise_are_in_order(name: str) -> None:
    spec = load_exercise(name)
    for criterion in spec.criteria:
        assert criterion.goal != criterion.worst
        assert 0.0 <= criterion.min_yaw_deg < criterion.max_yaw_deg <= 90.0
    for fault in spec.faults:
        assert fault.measure in MEASURES
        assert fault.limit != fault.severe
        assert 0.0 <= fault.min_yaw_deg < fault.max_yaw_deg <= 90.0
    priorities = [fault.priority for fault in spec.faults]
    assert priorities == sorted(priorities)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_fault_is_not_judged_twice_by_one_measure(name: str) -> None:
    faults = load_exercise(name).faults
    for index, one in enumerate(faults):
        for other in faults[index + 1 :]:
            if one.name == other.name and one.measure == other.measure:
                assert one.max_yaw_deg <= other.min_yaw_deg or other.max_yaw_deg <= one.min_yaw_deg


@pytest.mark.parametrize("spelling", ["push_up", "Push-Up", " push up "])
def test_a_name_is_found_however_it_is_spelled(spelling: str) -> None:
    assert load_exercise(spelling).name == "push_up"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownExerciseError, match=r"unknown exercise 'juggling'.*lunge.*squat"):
        load_exercise("juggling")


def test_a_file_of_ones_own_is_read(write: Write) -> None:
    spec = load_exercise(write("shrug.yaml", GOOD))
    assert isinstance(spec, ExerciseSpec)
    assert spec.signal.resting == ("left_hip",)
    assert spec.faults[0].priority == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownExerciseError, match=r"there is no exercise file .*nothing\.yaml"):
        load_exercise(str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name: x\ntitle: [", "in line 2: expected the node content"),
        (b"name: x\n\ntitle: a: b", "in line 3: mapping values are not allowed here"),
        (
            b"name: x\ntitle: X\nname: y",
            "in line 3: the key 'name' is there twice, first in line 1",
        ),
        (b"name: x\ngoals:\n- joint: hip\n  joint: hip", "in line 4: the key 'joint' is there"),
        (b"{? [a] : 1, ? [a] : 2}", "unhashable key"),
        (b"name: 2020-13-45", "month must be in 1..12"),
        (b"name: \x07", "special characters are not allowed"),
        (b"\xff\xfe\x00", "'utf-8' codec"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_in_one_sentence(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.yml"
    path.write_bytes(content)
    with pytest.raises(ExerciseError, match=r"broken\.yml: not valid YAML") as caught:
        load_exercise(str(path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ExerciseError, match=r"folder\.yaml: cannot be read: Is a directory"):
        load_exercise(str(tmp_path / "folder.yaml"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("signal.rest", "middle", "signal.rest must be one of: high, low, got 'middle'"),
        ("signal.moving", [], "signal.moving must be at least one name"),
        ("signal.moving", "left_hip", "signal.moving must be a list"),
        ("signal.moving", ["left_tail"], "signal.moving must be one of: nose,"),
        ("signal.min_range", 0, "signal.min_range must be a number above 0, got 0"),
        ("signal.full_share", 1.2, "signal.full_share must be at most 1, got 1.2"),
        ("signal.min_range", True, "signal.min_range must be a number, got True"),
        ("signal.source", " ", "signal.source must be a text that is not empty"),
        ("signal", [], "signal must be a mapping"),
        ("goals", {}, "goals must be a list"),
        ("goals.0.joint", "wing", r"goals\[0\].joint must be one of: shoulder,"),
        ("goals.0.tolerance_deg", -1, r"goals\[0\].tolerance_deg must be a number above 0"),
        ("criteria.0.name", "charm", r"criteria\[0\].name must be one of: depth,"),
        ("criteria.0.joint", "wing", r'criteria\[0\].joint must be one of: "", shoulder'),
        ("faults.0.limit", "high", r"faults\[0\].limit must be a number, got 'high'"),
        ("faults.0.cue", "", r"faults\[0\].cue must be a text"),
        ("faults.0.praise", None, r"key 'praise' is missing in faults\[0\]"),
        ("faults.0.severe", 0.5, r"faults\[0\].severe must be other than limit \(0.5\), got 0.5"),
        ("criteria.0.worst", 1, r"criteria\[0\].worst must be other than goal \(1\), got 1"),
        ("faults.0.limit", float("nan"), r"faults\[0\].limit must be a finite number, got nan"),
        ("faults.0.severe", float("inf"), r"faults\[0\].severe must be a finite number, got inf"),
        pytest.param(
            "faults.0.severe", 10**400, r"faults\[0\].severe must be a finite number", id="huge"
        ),
        ("faults.0.priority", float("inf"), r"faults\[0\].priority must be a finite number"),
        ("signal.min_range", float("nan"), "signal.min_range must be a finite number, got nan"),
        ("criteria.0.name", "depth", r"criteria\[0\].joint must be the joint .* depth, got \'\'"),
        ("criteria.0.name", "range_of_motion", r"criteria\[0\].joint must be the joint"),
        ("criteria.0.min_yaw_deg", -1, r"criteria\[0\].min_yaw_deg must be a yaw from 0 to 90"),
        ("faults.0.max_yaw_deg", 91, r"faults\[0\].max_yaw_deg must be a yaw from 0 to 90"),
        (
            "signal.max_duration_s",
            0.3,
            r"signal.max_duration_s must be above min_duration_s \(0.3\)",
        ),
        (
            "signal.resting",
            ["left_hip", "left_shoulder"],
            r"signal.resting must be points that are not among the moving, got \['left_shoulder'\]",
        ),
        ("signal.feet", "bare", "signal.feet must be one of: planted, moving, got 'bare'"),
        ("signal.ready", [0.3], "signal.ready must be the lowest and the highest height"),
        ("signal.ready.1", "up", r"signal.ready\[1\] must be a number, got 'up'"),
        ("signal.ready.1", -0.2, r"signal.ready\[1\] must be above the lowest \(-0.1\)"),
        ("signal.ready", None, "key 'ready' is missing in signal"),
        ("signal.moving", ["left_hip"] * 2, "signal.moving must be names that are there once"),
        ("phases.away", "low", "phases.rest must be a name that no other phase has, got 'low'"),
        (
            "criteria.0.weight",
            1e26,
            r"criteria\[0\].weight must be a number from -1e\+06 to 1e\+06",
        ),
        ("name", "../shrug", "name must be letters, digits, _ and -, .* got '../shrug'"),
        ("faults.0.measure", "aura", r"faults\[0\].measure must be one of: .*pause_s.*'aura'"),
        (
            "criteria.0",
            CRITERION | {"name": "symmetry", "joint": "trunk_lean"},
            r"criteria\[0\].joint must be a joint that symmetry can read, got 'trunk_lean'",
        ),
        ("title", None, "key 'title' is missing in the file"),
        ("colour", "red", "unknown key 'colour' in the file; allowed keys: name, title"),
        ("signal.speed", 1, "unknown key 'speed' in signal; allowed keys: moving"),
    ],
)
def test_a_wrong_value_names_file_key_and_what_is_allowed(
    path: str, value: object, message: str, write: Write
) -> None:
    file = write("shrug.yaml", changed(path, value))
    with pytest.raises(ExerciseError, match=message) as caught:
        load_exercise(file)
    assert str(caught.value).startswith(file)


def test_yaws_in_the_wrong_order_are_refused(write: Write) -> None:
    data = yaml.safe_load(yaml.safe_dump(GOOD))
    data["faults"][0].update(min_yaw_deg=60, max_yaw_deg=40)
    with pytest.raises(
        ExerciseError, match=r"faults\[0\].max_yaw_deg must be at least min_yaw_deg"
    ):
        load_exercise(write("shrug.yaml", data))


def hold_file(**changes: object) -> dict[str, object]:
    """Return the plank's file with other values in its hold; None leaves a key out."""
    path = Path(__file__).parents[3] / "config/exercises/plank.yaml"
    data: dict[str, object] = yaml.safe_load(path.read_text(encoding="utf-8"))
    hold = data["hold"]
    assert isinstance(hold, dict)
    kept = {key: value for key, value in (hold | changes).items() if value is not None}
    return data | {"hold": kept}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("line", ["shoulder", "hip"], "hold.line must be three different parts, from end to end"),
        ("line", ["shoulder", "hip", "tail"], "hold.line must be one of: .*shoulder.*, got 'tail'"),
        ("raised", "nose", "hold.raised must be one of: .*shoulder.*, got 'nose'"),
        ("max_speed", 0, "hold.max_speed must be a number above 0, got 0"),
        ("min_yaw_deg", 90, "hold.min_yaw_deg must be a yaw from 0 to below 90, got 90"),
        ("settle_s", None, "key 'settle_s' is missing in hold"),
        ("mood", "calm", "unknown key 'mood' in hold; allowed keys: line, max_slope_deg"),
    ],
)
def test_a_wrong_hold_names_file_key_and_what_is_allowed(
    key: str, value: object, message: str, write: Write
) -> None:
    file = write("hold.yaml", hold_file(**{key: value}))
    with pytest.raises(ExerciseError, match=message) as caught:
        load_exercise(file)
    assert str(caught.value).startswith(file)


def test_a_hold_needs_its_position_and_nothing_else_has_one(write: Write) -> None:
    data = hold_file()
    hold = data.pop("hold")
    with pytest.raises(ExerciseError, match="hold must be a mapping, got None"):
        load_exercise(write("hold.yaml", data))
    with pytest.raises(
        ExerciseError, match=r"hold must be left out unless signal\.counted is hold"
    ):
        load_exercise(write("shrug.yaml", GOOD | {"hold": hold}))


@pytest.mark.parametrize("key", ["criteria", "faults"])
def test_what_no_named_view_shows_is_refused(key: str, write: Write) -> None:
    data = yaml.safe_load(yaml.safe_dump(GOOD))
    del data["views"][1]
    data[key][0].update(min_yaw_deg=60)
    with pytest.raises(ExerciseError, match=rf"{key}\[0\].min_yaw_deg must be yaws .*60 to 90"):
        load_exercise(write("shrug.yaml", data))


def test_what_no_measure_can_tell_is_refused_before_scoring(write: Write) -> None:
    spec = load_exercise(write("shrug.yaml", GOOD))
    fault = dataclasses.replace(spec.faults[0], measure="aura")
    with pytest.raises(ExerciseError, match=r"shrug: faults\[0\].measure must be .* got 'aura'"):
        FormScorer(dataclasses.replace(spec, faults=(fault,)))
    criterion = dataclasses.replace(spec.criteria[0], name="symmetry", joint="trunk_lean")
    with pytest.raises(ExerciseError, match=r"shrug: criteria\[0\].joint must be a joint that"):
        FormScorer(dataclasses.replace(spec, criteria=(criterion,)))


def test_a_criterion_is_named_once_and_a_fault_as_often_as_it_has_views(write: Write) -> None:
    data = yaml.safe_load(yaml.safe_dump(GOOD))
    for key in ("criteria", "faults"):
        data[key] = [data[key][0], data[key][0] | {"source": "another"}]
    with pytest.raises(ExerciseError, match=r"criteria\[1\].name must be a criterion .* 'tempo'"):
        load_exercise(write("shrug.yaml", data))
    data["criteria"].pop()
    assert [one.name for one in load_exercise(write("shrug.yaml", data)).faults] == ["pause"] * 2


def test_a_file_that_is_a_list_is_refused(write: Write) -> None:
    with pytest.raises(ExerciseError, match="the file must be a mapping"):
        load_exercise(write("list.yaml", [GOOD]))
