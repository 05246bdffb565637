"""run_tests: what counts as too little coverage."""

from __future__ import annotations

from run_tests import COMPLETE, Summary, shortfalls


def summary(percent: float, branches: int = 100, covered: int = 100) -> Summary:
    return {
        "percent_covered": percent,
        "num_branches": branches,
        "covered_branches": covered,
    }


def complete(**changes: float) -> dict[str, Summary]:
    percents = {**dict.fromkeys(COMPLETE, 100.0), **changes}
    return {f"src/pose_analyzer/{name}.py": summary(value) for name, value in percents.items()}


def test_full_coverage_passes() -> None:
    assert shortfalls(complete(), summary(100, covered=85)) == []


def test_too_few_branches_are_named() -> None:
    assert shortfalls(complete(), summary(99, covered=84)) == [
        "84.0 % of all branches are tested, 85 % must be"
    ]


def test_code_without_branches_is_covered() -> None:
    assert shortfalls(complete(), summary(100, branches=0, covered=0)) == []


def test_a_gap_in_a_complete_module_is_named() -> None:
    (sentence,) = shortfalls(complete(rep_counter=99.4), summary(100))
    assert sentence == "src/pose_analyzer/rep_counter.py is covered to 99.4 %, it must be 100 %"


def test_a_complete_module_that_was_never_run_is_named() -> None:
    files = complete()
    del files["src/pose_analyzer/biomechanics.py"]
    assert shortfalls(files, summary(100)) == ["pose_analyzer/biomechanics.py was never run"]
